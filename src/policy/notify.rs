use super::{Fields, Wrong};
use crate::limits::{NOTIFY_INTERVAL_MS_MAX, NOTIFY_INTERVAL_MS_MIN, NOTIFY_ROUND_MS_MAX};

/// The share that is told in one wave unless a policy says otherwise, in thousandths.
const PERMILLE_DEFAULT: u64 = 100;
/// Time between two waves unless a policy says otherwise, ms.
const INTERVAL_MS_DEFAULT: u64 = 30_000;
/// What may be exempt.
const EXEMPT: [&str; 2] = ["drain", "override"];

/// What a transaction is, for those policies that exempt it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Urgency {
    /// It takes an instance out of traffic before it ends, or puts it back.
    pub is_drain: bool,
    /// It brings about what an override says, or takes it back.
    pub is_override: bool,
}

/// How the news of changes is spread: not to everybody at once, but to a share of the listeners in each wave. The pattern is
/// that of the znodes that change, or of the lists in which they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Waves until everybody has been told.
    pub waves: u64,
    /// Time between two, ms.
    pub interval_ms: u64,
    /// What is told without waiting for a wave.
    pub exempt: Urgency,
    /// It acts only while there are more events than so many per second.
    pub events_per_s: Option<u64>,
}

impl Notify {
    pub(super) fn parse(fields: &mut Fields) -> Result<Notify, Wrong> {
        let permille = fields.whole("ratio_permille", 1..=1_000)?.unwrap_or(PERMILLE_DEFAULT);
        let range = NOTIFY_INTERVAL_MS_MIN..=NOTIFY_INTERVAL_MS_MAX;
        let interval_ms = fields.whole("wave_interval_ms", range)?.unwrap_or(INTERVAL_MS_DEFAULT);
        let waves = 1_000_u64.div_ceil(permille);
        if waves * interval_ms > NOTIFY_ROUND_MS_MAX {
            let why = format!(
                "{waves} waves, {interval_ms} ms apart, take longer than {NOTIFY_ROUND_MS_MAX} ms"
            );
            return Err(fields.wrong("wave_interval_ms", why));
        }
        let exempt = fields.texts("exempt")?.unwrap_or_else(|| EXEMPT.map(str::to_owned).to_vec());
        if let Some(other) = exempt.iter().find(|word| !EXEMPT.contains(&word.as_str())) {
            let why = format!("{other:?} is none of {}", EXEMPT.join(", "));
            return Err(fields.wrong("exempt", why));
        }
        let has = |wanted: &str| exempt.iter().any(|word| word == wanted);
        let exempt = Urgency { is_drain: has(EXEMPT[0]), is_override: has(EXEMPT[1]) };
        Ok(Notify {
            waves,
            interval_ms,
            exempt,
            events_per_s: fields.whole("auto_events_per_s", 1..=u64::MAX)?,
        })
    }

    /// Returns whether it spreads a transaction of this urgency, at so many events per second.
    pub fn spreads(&self, urgency: Urgency, events_per_s: u64) -> bool {
        let is_exempt = self.exempt.is_drain && urgency.is_drain
            || self.exempt.is_override && urgency.is_override;
        !is_exempt && self.is_on(events_per_s)
    }

    /// Returns whether it acts at so many events per second.
    pub fn is_on(&self, events_per_s: u64) -> bool {
        self.events_per_s.is_none_or(|least| events_per_s > least)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Policy, Terms};
    use super::{Notify, Urgency};

    fn parse(terms: &str) -> Result<Notify, String> {
        let json = format!(
            r#"{{"set_by":"a","reason":"b","expires_at_ms":1,"pattern":"/services/**"{terms}}}"#
        );
        match Policy::parse(Kind::Notify, json.as_bytes()) {
            Ok(Policy { terms: Terms::Notify(notify), .. }) => Ok(notify),
            Ok(other) => panic!("{other:?}"),
            Err(wrong) => Err(wrong.field),
        }
    }

    #[test]
    fn a_share_becomes_waves_and_what_is_wrong_is_named() {
        let plain = parse("").unwrap();
        assert_eq!((plain.waves, plain.interval_ms, plain.events_per_s), (10, 30_000, None));
        assert_eq!(plain.exempt, Urgency { is_drain: true, is_override: true });
        assert_eq!(parse(r#","ratio_permille":300"#).unwrap().waves, 4);
        assert_eq!(parse(r#","ratio_permille":1000"#).unwrap().waves, 1);
        assert_eq!(parse(r#","exempt":[]"#).unwrap().exempt, Urgency::default());
        for (terms, field) in [
            (r#","ratio_permille":0"#, "ratio_permille"),
            (r#","ratio_permille":1001"#, "ratio_permille"),
            (r#","wave_interval_ms":99"#, "wave_interval_ms"),
            (r#","ratio_permille":1"#, "wave_interval_ms"),
            (r#","exempt":["lunch"]"#, "exempt"),
            (r#","auto_events_per_s":0"#, "auto_events_per_s"),
            (r#","ratio":1"#, "ratio"),
        ] {
            assert_eq!(parse(terms).unwrap_err(), field, "{terms}");
        }
    }

    #[test]
    fn what_is_exempt_or_below_the_rate_is_not_spread() {
        let drain = Urgency { is_drain: true, is_override: false };
        let plain = parse(r#","exempt":["drain"]"#).unwrap();
        assert!(plain.spreads(Urgency::default(), 0) && !plain.spreads(drain, 0));
        assert!(plain.spreads(Urgency { is_drain: false, is_override: true }, 0));
        let auto = parse(r#","auto_events_per_s":500"#).unwrap();
        assert!(!auto.spreads(Urgency::default(), 500) && auto.spreads(Urgency::default(), 501));
        assert!(!auto.spreads(drain, 501));
    }
}
