//! Policies: the switches by which people tell the registry how to treat parts of the tree.
//!
//! A policy is a znode, `/roost/policies/<kind>/<name>`, whose data is one JSON object. So it is replicated and survives
//! leaders and restarts like any other znode, can be watched, read with any client and protected with an access control
//! list; and one that is to end by itself is a TTL znode, which goes by the cluster's clock.
//!
//! Every policy has the same *envelope*: `set_by` and `reason`, which are for people and never empty; `set_at_ms` and, if
//! it ends by itself, `expires_at_ms`, both to be shown only; a `pattern` of the paths that it is about; and a `mode`.
//! What else it has belongs to its kind, and each kind is one file here and one variant of [`Kind`] and [`Terms`].
//!
//! What holds here:
//!
//! - Text becomes a [`Policy`] in one place, [`Policy::parse`], which refuses what it does not know by name and says what is
//!   wrong where. Doors ask before anything reaches the log ([`check_write`]); the tree asks again and passes over what
//!   does not parse, so nothing that is written through another door can hurt it.
//! - No number of a policy is ever a float: a ratio is read from its decimal digits into a permille.
//! - [`Policies`] is a persistent value, kept by the tree in step with the znodes, and a pure function of them and of the
//!   policies that are built in. A policy of the same kind and name takes the place of a built-in one.
//! - Looking up what speaks of a path costs the depth of the path, not the number of policies: they are found by the elements
//!   of their patterns, one after the other.
//!
//! To add a kind: a file with its terms and their `parse`, a variant of [`Kind`] and of [`Terms`], and the two lines in
//! [`Kind::name`] and `Terms::parse` that the compiler asks for.
//!
//! What it lacks on purpose: what a policy leads to (the tree decides about removals, a node before its log about
//! admission), time (whoever asks knows it), and I/O.

mod admission;
mod disconnect;
mod fields;
mod index;
mod layout;
mod notify;
mod overrides;
mod pattern;
mod probe;
mod removal;
mod rule;
mod set;

use serde_json::Value;

use crate::limits::POLICY_BYTES_MAX;
use crate::registry::{LayoutKind, Template};

pub use admission::{
    Admission, Asked, Denial, Proposed, Verdict, denial, following_denial, weighed,
};
pub use disconnect::Disconnect;
pub use fields::{Fields, Wrong};
pub use index::Reach;
pub use layout::Layout;
pub use notify::{Notify, Urgency};
pub use overrides::{Overrides, Target};
pub use pattern::{Pattern, tops};
pub use probe::{Manner, Probing, Rounds};
pub use removal::Removal;
pub use set::{Named, Policies, built_in_data};

/// The znode below which each child is a kind.
pub const ROOT: &str = "/roost/policies";

/// What a policy is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// How many providers a service may lose at once by silence.
    Removal,
    /// Who may register what, from where, and who may follow it.
    Admission,
    /// What it means that a client ends its connection.
    Disconnect,
    /// How instances stand, whatever they say themselves.
    Overrides,
    /// That a provider is asked itself: when it is silent, or all the time.
    Probe,
    /// How the news of changes is spread.
    Notify,
    /// Where the registrations of one's own framework are.
    Layout,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 7] = [
        Kind::Removal,
        Kind::Admission,
        Kind::Disconnect,
        Kind::Overrides,
        Kind::Probe,
        Kind::Notify,
        Kind::Layout,
    ];

    /// Returns the name of the kind: the element of the path.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Removal => "removal",
            Kind::Admission => "admission",
            Kind::Disconnect => "disconnect",
            Kind::Overrides => "overrides",
            Kind::Probe => "probe",
            Kind::Notify => "notify",
            Kind::Layout => "layout",
        }
    }

    /// Returns whether a policy of this kind that is in this mode has to end by itself: one that holds something back for
    /// as long as somebody looks after it, and must not be forgotten.
    pub fn must_expire(self, mode: Mode) -> bool {
        match (self, mode) {
            (Kind::Removal, mode) => mode == Mode::Off,
            (Kind::Notify, _) => true,
            (
                Kind::Admission | Kind::Disconnect | Kind::Overrides | Kind::Probe | Kind::Layout,
                _,
            ) => false,
        }
    }

    /// Returns whether a policy of this kind can observe: what it would do is then noted as it would be done.
    fn can_observe(self) -> bool {
        match self {
            Kind::Removal | Kind::Admission | Kind::Disconnect | Kind::Overrides => true,
            Kind::Probe | Kind::Notify | Kind::Layout => false,
        }
    }

    /// Returns the kind of this name.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns the kind of this name, or what is wrong with it.
    pub fn parse(name: &str) -> Result<Kind, Wrong> {
        let known = || Kind::ALL.map(Kind::name).join(", ");
        Kind::from_name(name).ok_or_else(|| {
            Wrong::new("kind", format!("there is no kind {name:?}: there are {}", known()))
        })
    }
}

/// Whether a policy acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Enforce,
    /// It does not; what it would have done is logged.
    Observe,
    /// It does not, nor does any that it takes precedence over.
    Off,
}

impl Mode {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
            Mode::Off => "off",
        }
    }
}

/// What a policy says beside its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terms {
    /// Of [`Kind::Removal`].
    Removal(Removal),
    /// Of [`Kind::Admission`].
    Admission(Box<Admission>),
    /// Of [`Kind::Disconnect`].
    Disconnect(Disconnect),
    /// Of [`Kind::Overrides`].
    Overrides(Overrides),
    /// Of [`Kind::Probe`].
    Probe(Probing),
    /// Of [`Kind::Notify`].
    Notify(Notify),
    /// Of [`Kind::Layout`].
    Layout(Layout),
}

impl Terms {
    /// Reads them; `pattern` is the policy's, as it is written.
    fn parse(kind: Kind, pattern: &str, fields: &mut Fields) -> Result<Terms, Wrong> {
        Ok(match kind {
            Kind::Removal => Terms::Removal(Removal::parse(fields)?),
            Kind::Admission => Terms::Admission(Box::new(Admission::parse(fields)?)),
            Kind::Disconnect => Terms::Disconnect(Disconnect::parse(fields)?),
            Kind::Overrides => Terms::Overrides(Overrides::parse(fields)?),
            Kind::Probe => Terms::Probe(Probing::parse(fields)?),
            Kind::Notify => Terms::Notify(Notify::parse(fields)?),
            Kind::Layout => Terms::Layout(Layout::parse(pattern, fields)?),
        })
    }
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Who set it, in words.
    pub set_by: String,
    /// Why, in words.
    pub reason: String,
    /// When, ms since 1970, by the clock of the node through which it came.
    pub set_at_ms: u64,
    /// When it will go by itself, likewise; the znode's TTL decides.
    pub expires_at_ms: Option<u64>,
    /// The paths that it is about; the kind says of what they are the paths.
    pub pattern: Pattern,
    /// Whether it acts.
    pub mode: Mode,
    /// The rest.
    pub terms: Terms,
    /// Whether it is there from the start, without a znode.
    pub is_built_in: bool,
}

impl Policy {
    /// Reads the data of a policy's znode. The error names the field and what is wrong with it. Cost: O(length), which is at
    /// most [`POLICY_BYTES_MAX`].
    pub fn parse(kind: Kind, data: &[u8]) -> Result<Policy, Wrong> {
        if data.len() > POLICY_BYTES_MAX {
            let why = format!("{} bytes: the limit is {POLICY_BYTES_MAX}", data.len());
            return Err(Wrong::new("the policy", why));
        }
        let mut fields = Fields::parse(data)?;
        let written = fields.need_text("pattern")?;
        let pattern = match kind {
            Kind::Layout => Template::parse(&written).map(|template| template.pattern()),
            _ => Ok(written.clone()),
        };
        let policy = Policy {
            set_by: fields.need_text("set_by")?,
            reason: fields.need_text("reason")?,
            set_at_ms: fields.whole("set_at_ms", 0..=u64::MAX)?.unwrap_or(0),
            expires_at_ms: fields.whole("expires_at_ms", 0..=u64::MAX)?,
            pattern: pattern
                .and_then(|text| Pattern::parse(&text))
                .map_err(|why| Wrong::new("pattern", why))?,
            mode: match fields.text("mode")?.as_deref() {
                None | Some("enforce") => Mode::Enforce,
                Some("observe") if kind.can_observe() => Mode::Observe,
                Some("observe") => {
                    let why = "there is nothing to observe of this kind: POST /v1/policies/test says what it would do";
                    return Err(Wrong::new("mode", why));
                }
                Some("off") => Mode::Off,
                Some(other) => {
                    let why = format!("{other:?} is none of enforce, observe, off");
                    return Err(Wrong::new("mode", why));
                }
            },
            terms: Terms::parse(kind, &written, &mut fields)?,
            is_built_in: false,
        };
        fields.finish()?;
        Ok(policy)
    }

    /// Returns whether it says who may follow what.
    fn is_about_following(&self) -> bool {
        matches!(&self.terms, Terms::Admission(admission) if admission.is_about_following())
    }
}

/// Checks that a policy which says that it ends by itself, or has to, is kept in a znode that does: `is_ttl`. Otherwise an
/// exception that was meant for an hour would come before all others for good.
pub fn check_end(kind: Kind, policy: &Policy, is_ttl: bool) -> Result<(), Wrong> {
    if is_ttl {
        return Ok(());
    }
    if policy.expires_at_ms.is_some() {
        let why = "a policy that ends by itself is a TTL znode: create it as one, or over HTTP with ttl_s";
        return Err(Wrong::new("expires_at_ms", why));
    }
    if kind.must_expire(policy.mode) {
        let why =
            "such a policy has to end by itself: create it as a TTL znode, or over HTTP say ttl_s";
        return Err(Wrong::new("ttl_s", why));
    }
    Ok(())
}

/// Checks what is refused of a policy that is set now, and has to be read from one that is there: it parses, but says
/// something else than was meant.
pub fn check_sense(kind: Kind, name: &str, data: &[u8]) -> Result<(), Wrong> {
    let mut fields = Fields::parse(data)?;
    match kind {
        Kind::Removal => match fields.take("max_ratio") {
            Some(Value::String(_)) => Err(Wrong::new("max_ratio", "it is a text, not a number")),
            _ => Ok(()),
        },
        Kind::Overrides => overrides::check_sense(&mut fields),
        Kind::Admission => admission::check_sense(&mut fields),
        Kind::Layout if LayoutKind::BUILT_IN.iter().any(|layout| layout.name() == name) => {
            let why = format!("{name} is the name of a layout that is built in");
            Err(Wrong::new("name", why))
        }
        Kind::Layout | Kind::Disconnect | Kind::Probe | Kind::Notify => Ok(()),
    }
}

/// Returns the path of a policy's znode.
pub fn path_of(kind: Kind, name: &str) -> String {
    format!("{ROOT}/{}/{name}", kind.name())
}

/// Returns the path of the znode whose children are the policies of a kind.
pub fn folder_of(kind: Kind) -> String {
    format!("{ROOT}/{}", kind.name())
}

/// Returns the kind and the name of the policy whose znode this is; `None` for any other path.
pub fn at(path: &str) -> Option<(Kind, &str)> {
    let (kind, name) = below_root(path)?.split_once('/')?;
    let kind = Kind::from_name(kind)?;
    (!name.is_empty() && !name.contains('/')).then_some((kind, name))
}

/// Returns what follows the root's slash.
fn below_root(path: &str) -> Option<&str> {
    path.strip_prefix(ROOT)?.strip_prefix('/')
}

/// Checks that a znode may be created at a path, or get this data: below [`ROOT`] only policies that parse may be, those that
/// end by themselves only in TTL znodes (`is_ttl`). Any other path is fine. Cost: O(1) for other paths.
pub fn check_write(path: &str, data: Option<&[u8]>, is_ttl: bool) -> Result<(), Wrong> {
    let Some(rest) = below_root(path) else { return Ok(()) };
    let (kind, name) = match rest.split_once('/') {
        None => return Kind::parse(rest).map(drop),
        Some((kind, name)) => (Kind::parse(kind)?, name),
    };
    if name.contains('/') {
        return Err(Wrong::new("path", "a policy has no children"));
    }
    let data = data.unwrap_or_default();
    let policy = Policy::parse(kind, data)?;
    check_sense(kind, name, data)?;
    check_end(kind, &policy, is_ttl)
}

#[cfg(test)]
mod tests {
    use super::{Kind, Mode, Policy, at, check_write};

    const GOOD: &str =
        r#"{"set_by":"a","reason":"b","set_at_ms":1,"pattern":"/services/**","max_ratio":0.25}"#;

    #[test]
    fn an_envelope_has_a_setter_a_reason_and_a_pattern_and_nothing_that_is_not_known() {
        let policy = Policy::parse(Kind::Removal, GOOD.as_bytes()).unwrap();
        assert_eq!((policy.mode, policy.expires_at_ms), (Mode::Enforce, None));
        for (from, to, field) in [
            ("\"set_by\":\"a\",", "", "set_by"),
            ("\"a\"", "\"\"", "set_by"),
            ("\"b\"", "7", "reason"),
            ("/services/**", "services", "pattern"),
            ("/services/**", "/a/**/b", "pattern"),
            ("\"set_at_ms\":1", "\"set_at_ms\":-1", "set_at_ms"),
            ("\"set_at_ms\":1", "\"mode\":\"on\"", "mode"),
            ("\"set_at_ms\":1", "\"ratio\":1", "ratio"),
            ("0.25", "1.5", "max_ratio"),
        ] {
            let wrong =
                Policy::parse(Kind::Removal, GOOD.replace(from, to).as_bytes()).unwrap_err();
            assert_eq!(wrong.field, field, "{wrong}");
        }
        let observing = r#"{"set_by":"a","reason":"b","pattern":"/**","mode":"observe","networks":["::1"],"probe":"tcp"}"#;
        assert_eq!(Policy::parse(Kind::Probe, observing.as_bytes()).unwrap_err().field, "mode");
        for bytes in [&b""[..], b"[]", b"{", b"\xff", &[b' '; 70_000]] {
            assert_eq!(Policy::parse(Kind::Removal, bytes).unwrap_err().field, "the policy");
        }
    }

    #[test]
    fn below_the_root_only_policies_may_be_written() {
        let data = Some(GOOD.as_bytes());
        for path in ["/roost", "/roost/policies", "/roost/policies/removal", "/roost/policiesx/y"] {
            assert!(check_write(path, None, false).is_ok(), "{path}");
        }
        assert!(check_write("/roost/policies/removal/a", data, false).is_ok());
        assert_eq!(
            check_write("/roost/policies/removal/a", None, false).unwrap_err().field,
            "the policy"
        );
        assert_eq!(
            check_write("/roost/policies/removal/a/b", data, false).unwrap_err().field,
            "path"
        );
        for path in ["/roost/policies/colour", "/roost/policies/colour/a"] {
            assert_eq!(check_write(path, data, false).unwrap_err().field, "kind");
        }
    }

    #[test]
    fn a_policy_that_ends_by_itself_or_has_to_is_a_ttl_znode() {
        let off = GOOD.replace("\"max_ratio\":0.25", "\"mode\":\"off\"");
        let path = "/roost/policies/removal/a";
        assert_eq!(check_write(path, Some(off.as_bytes()), false).unwrap_err().field, "ttl_s");
        for brief in [off, GOOD.to_owned()] {
            let brief = brief.replace("\"set_at_ms\":1", "\"expires_at_ms\":9");
            assert!(check_write(path, Some(brief.as_bytes()), true).is_ok());
            let wrong = check_write(path, Some(brief.as_bytes()), false).unwrap_err();
            assert_eq!(wrong.field, "expires_at_ms");
        }
        assert!(check_write(path, Some(GOOD.as_bytes()), true).is_ok());
    }

    #[test]
    fn a_path_names_a_policy_by_its_kind_and_name() {
        assert_eq!(at("/roost/policies/removal/a"), Some((Kind::Removal, "a")));
        for path in ["/roost/policies/removal", "/roost/policies/colour/a", "/a/removal/b", "/"] {
            assert_eq!(at(path), None, "{path}");
        }
        assert_eq!(at("/roost/policies/removal/a/b"), None);
    }
}
