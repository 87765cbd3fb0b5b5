use std::collections::{BTreeMap, BTreeSet};

use super::{Net, clock, trace, volume};
use crate::schedule::{Family, Fault, Schedule, Step};
use crate::target::{Place, System};

/// What can be made on this machine.
#[derive(Clone, Debug)]
pub struct Kit {
    lacking: BTreeMap<Family, String>,
}

impl Kit {
    /// Finds out about these families, with such a network between nodes, by trying. Cost: about a second for file systems.
    pub fn find(families: &BTreeSet<Family>, net: Net) -> Kit {
        let mut lacking = BTreeMap::new();
        let mut file_systems = None;
        for family in families {
            let why = match family {
                Family::Network
                | Family::Slow
                | Family::Process
                | Family::Damage
                | Family::Member => None,
                Family::Packet => match net {
                    Net::Switch => None,
                    Net::Proxies | Net::Namespaces => Some("only --net switch does that".into()),
                },
                Family::Clock | Family::Rate => match clock::library() {
                    Some(_) => None,
                    None => Some("libfaketime is not installed".into()),
                },
                Family::Fsync => trace::lacking(&std::env::temp_dir()),
                Family::Full | Family::Power => {
                    file_systems.get_or_insert_with(volume::lacking).clone()
                }
            };
            lacking.extend(why.map(|why| (*family, why)));
        }
        Kit { lacking }
    }

    /// Returns what cannot be made, each with the reason.
    pub fn lacking(&self) -> &BTreeMap<Family, String> {
        &self.lacking
    }

    /// Error: why the schedule cannot be carried out here on a system, whose nodes are at such places.
    pub fn check(
        &self,
        schedule: &Schedule,
        system: &dyn System,
        place: &Place,
    ) -> Result<(), String> {
        let needed = schedule.needed();
        if let Some((family, why)) = self.lacking.iter().find(|(family, _)| needed.contains(family))
        {
            return Err(format!("faults of the family {family} cannot be made: {why}"));
        }
        if needed.contains(&Family::Clock) && needed.contains(&Family::Rate) {
            return Err("a run has clocks that jump or clocks that run wrongly, not both".into());
        }
        for Step { fault, .. } in &schedule.steps {
            let is_possible = match fault {
                Fault::Wipe(_) => system.survives_wipe() || system.has_members(),
                Fault::Tear { .. } | Fault::Flip { .. } => {
                    system.store_file(place).is_some() && system.has_members()
                }
                Fault::Leave(_) | Fault::Transfer(_) => system.has_members(),
                _ => true,
            };
            if !is_possible {
                return Err(format!("{} does not come back from `{fault}`", system.name()));
            }
        }
        Ok(())
    }
}
