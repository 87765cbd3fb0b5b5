use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::INCARNATIONS_MAX;

/// The incarnations of the providers of one process: those of all its registrations, for a consumer may have a list from
/// before the process had to register again. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Incarnations(Arc<Mutex<VecDeque<(String, u64)>>>);

impl Incarnations {
    /// Notes a registration; 0 is that of a registry that does not say.
    pub(super) fn note(&self, service: &str, incarnation: u64) {
        let mut known = self.0.lock();
        let one = (service.to_owned(), incarnation);
        if incarnation == 0 || known.contains(&one) {
            return;
        }
        known.push_back(one);
        if known.len() > INCARNATIONS_MAX {
            known.pop_front();
        }
    }

    /// Returns whether a call that is meant for this incarnation of a provider of the service has come to the wrong process:
    /// to one that had the same address later, or earlier. Before the process knows its own it refuses nothing, and 0 means
    /// whoever is there.
    pub fn refuses(&self, service: &str, incarnation: u64) -> bool {
        let known = self.0.lock();
        let mut own = known.iter().filter(|(name, _)| name == service).peekable();
        incarnation != 0 && own.peek().is_some() && !own.any(|(_, known)| *known == incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_for_another_process_is_refused_and_one_for_an_earlier_registration_is_not() {
        let incarnations = Incarnations::default();
        assert!(!incarnations.refuses("web", 7), "nothing is known yet");
        incarnations.note("web", 0);
        assert!(!incarnations.refuses("web", 7), "0 says nothing");
        incarnations.note("web", 8);
        incarnations.note("web", 12);
        incarnations.note("api", 9);
        assert!(!incarnations.refuses("web", 0), "0 is nobody's");
        let refused = |service| (7..=12).filter(|n| incarnations.refuses(service, *n)).collect();
        let (web, api): (Vec<u64>, Vec<u64>) = (refused("web"), refused("api"));
        assert_eq!((web, api), (vec![7, 9, 10, 11], vec![7, 8, 10, 11, 12]));
        for n in 100..100 + INCARNATIONS_MAX as u64 {
            incarnations.note("web", n);
        }
        assert!(incarnations.refuses("web", 8), "that is long ago");
    }
}
