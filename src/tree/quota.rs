//! Quotas, as zkCli's `setquota`, `listquota` and `delquota` drive them with plain creates and sets: what the
//! znode `/zookeeper/quota<path>/zookeeper_limits` says holds for a path and all below it, and the data of
//! `zookeeper_stats` beside it, if that exists, is what is there now, whatever a client writes into it.
//!
//! The usage is counted here, in the replicated state, and so is the same on every node. It is kept by the edits
//! in `change.rs` and counted anew when limits appear and when a snapshot is loaded.
//!
//! Whether hard limits are enforced is part of the state too, so that all nodes agree: they are unless the data of
//! `/zookeeper/quota` is `enforceQuota=false`.
//!
//! Where it departs from ZooKeeper: a hard limit is enforced unless that is switched off (in ZooKeeper
//! `enforceQuota=true` of each server switches it on); with a quota above another both hold and both count all that is below; what makes
//! a znode smaller is never refused; limits that do not parse are none. As there, `/` and `/zookeeper` have no
//! quota, and the stats change without a version or an event.

use imbl::OrdMap;

use super::Tree;
use crate::types::{Code, Data, ZnodePath};

/// Where the quota of a path is, in front of the path.
const ROOT: &str = "/zookeeper/quota";
/// Data of the root of the quotas that switches enforcement off.
const NOT_ENFORCED: &[u8] = b"enforceQuota=false";
/// The znode with the limits, behind the path.
const LIMITS: &str = "/zookeeper_limits";
/// The znode with the usage.
const STATS: &str = "/zookeeper_stats";

/// What a quota allows a path and all below it to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Znodes, beyond which it is reported.
    pub znodes: Option<u64>,
    /// Bytes of data, beyond which it is reported.
    pub bytes: Option<u64>,
    /// Znodes, beyond which creating is refused.
    pub znodes_hard: Option<u64>,
    /// Bytes of data, beyond which adding is refused.
    pub bytes_hard: Option<u64>,
}

impl QuotaLimits {
    /// Reads `count=N,bytes=M=;byteHardLimit=N;countHardLimit=M`; negative numbers are no limit, and so is what is
    /// missing. A text that is anything else has no limits. Source: ZooKeeper `StatsTrack`.
    fn parse(data: Option<&Data>) -> QuotaLimits {
        let text = data.and_then(|data| std::str::from_utf8(data).ok());
        text.and_then(QuotaLimits::parse_text).unwrap_or_default()
    }

    fn parse_text(text: &str) -> Option<QuotaLimits> {
        let mut limits = QuotaLimits::default();
        for pair in text.split([',', ';']).filter(|pair| !pair.is_empty()) {
            // A stray `=` behind the number is how ZooKeeper hides the hard limits from older versions of itself.
            let mut parts = pair.split('=');
            let (key, value) = (parts.next()?, parts.next()?);
            let value = if value.is_empty() { -1 } else { value.parse::<i64>().ok()? };
            let limit = u64::try_from(value).ok();
            match key {
                "count" => limits.znodes = limit,
                "bytes" => limits.bytes = limit,
                "countHardLimit" => limits.znodes_hard = limit,
                "byteHardLimit" => limits.bytes_hard = limit,
                _ => {}
            }
        }
        Some(limits)
    }
}

/// A quota and how much of it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// What it allows.
    pub limits: QuotaLimits,
    /// Znodes at the path and below.
    pub znodes: u64,
    /// Bytes of their data.
    pub bytes: u64,
}

impl Quota {
    /// Returns whether more is there than the limits that are only reported allow.
    pub fn is_exceeded(&self) -> bool {
        let QuotaLimits { znodes, bytes, .. } = self.limits;
        znodes.is_some_and(|max| self.znodes > max) || bytes.is_some_and(|max| self.bytes > max)
    }

    /// Returns whether so much more is within the limits that are enforced.
    fn has_room(&self, znodes: u64, bytes: u64) -> bool {
        let fits = |max: Option<u64>, used: u64, more: u64| {
            more == 0 || max.is_none_or(|max| used.saturating_add(more) <= max)
        };
        let QuotaLimits { znodes_hard, bytes_hard, .. } = self.limits;
        fits(znodes_hard, self.znodes, znodes) && fits(bytes_hard, self.bytes, bytes)
    }

    fn to_data(self) -> Data {
        Data::new(format!("count={},bytes={}", self.znodes, self.bytes).as_bytes())
    }
}

/// The quotas by their path.
pub(super) type Quotas = OrdMap<ZnodePath, Quota>;

/// Returns the path whose quota a znode with this last element belongs to.
fn subject<'a>(path: &'a str, last: &str) -> Option<&'a str> {
    let subject = path.strip_prefix(ROOT)?.strip_suffix(last)?;
    (subject.starts_with('/') && !is_exempt(subject)).then_some(subject)
}

/// Returns whether no quota speaks of this path.
fn is_exempt(path: &str) -> bool {
    path == "/"
        || path
            .strip_prefix("/zookeeper")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Tree {
    /// Yields the quotas by path, with their usage.
    pub fn quotas(&self) -> impl Iterator<Item = (&ZnodePath, &Quota)> {
        self.quotas.iter()
    }

    /// Returns the quota of this path itself.
    pub fn quota(&self, path: &ZnodePath) -> Option<&Quota> {
        self.quotas.get(path)
    }

    /// Returns whether hard limits are enforced.
    fn enforces_quotas(&self) -> bool {
        let data = self.get(ROOT).and_then(|znode| znode.data());
        data.is_none_or(|data| data[..] != *NOT_ENFORCED)
    }

    /// Checks that a path may get so many znodes and bytes more. Errors: `QuotaExceeded`. Source: ZooKeeper
    /// `ZooKeeperServer.checkQuota`.
    pub(super) fn check_quota(
        &self,
        path: &ZnodePath,
        znodes: u64,
        bytes: u64,
    ) -> Result<(), Code> {
        if !self.enforces_quotas() {
            return Ok(());
        }
        let has_room = |top: &ZnodePath| {
            self.quotas.get(top).is_none_or(|quota| quota.has_room(znodes, bytes))
        };
        if self.quotas_above(path).iter().all(has_room) { Ok(()) } else { Err(Code::QuotaExceeded) }
    }

    /// Returns the paths of the quotas that count this path.
    fn quotas_above(&self, path: &ZnodePath) -> Vec<ZnodePath> {
        if self.quotas.is_empty() || is_exempt(path.as_str()) {
            return Vec::new();
        }
        let found = path.self_and_ancestors().filter_map(|top| self.quotas.get_key_value(top));
        found.map(|(top, _)| top.clone()).collect()
    }

    /// Counts a change of what is at a path: znodes and bytes before, and after.
    pub(super) fn count_usage(
        &mut self,
        path: &ZnodePath,
        before: (u64, usize),
        after: (u64, usize),
    ) {
        if before == after {
            return;
        }
        for top in self.quotas_above(path) {
            if let Some(quota) = self.quotas.get_mut(&top) {
                quota.znodes = quota.znodes + after.0 - before.0;
                quota.bytes = quota.bytes + after.1 as u64 - before.1 as u64;
            }
            self.show_usage(&top);
        }
    }

    /// Takes note of a znode that has come, has other data, or has gone: it may be the limits of a quota.
    pub(super) fn follow_limits(&mut self, path: &ZnodePath) {
        let Some(top) = subject(path.as_str(), LIMITS).and_then(|top| ZnodePath::parse(top).ok())
        else {
            return;
        };
        let Some(znode) = self.get(path.as_str()) else {
            self.quotas.remove(&top);
            return;
        };
        let limits = QuotaLimits::parse(znode.data());
        match self.quotas.get_mut(&top) {
            Some(quota) => quota.limits = limits,
            None => {
                let quota = Quota { limits, ..self.usage(top.as_str()) };
                self.quotas.insert(top.clone(), quota);
                self.show_usage(&top);
            }
        }
    }

    /// Returns what is at a path and below, without limits. Cost: O(result).
    fn usage(&self, top: &str) -> Quota {
        let all = self.subtree(top).map(|(_, znode)| znode);
        all.fold(Quota::default(), |quota, znode| Quota {
            znodes: quota.znodes + 1,
            bytes: quota.bytes + znode.data().map_or(0, |data| data.len()) as u64,
            ..quota
        })
    }

    /// Writes the usage of a quota into its znode, if there is one.
    fn show_usage(&mut self, top: &ZnodePath) {
        let Some(quota) = self.quotas.get(top) else { return };
        let (data, path) = (quota.to_data(), format!("{ROOT}{top}{STATS}"));
        if let Some((path, _)) = self.nodes.get_key_value(path.as_str()) {
            let path = path.clone();
            self.update_data(&path, Some(data), |_| {});
        }
    }

    /// Returns the data that a znode gets when a client wants it to have this: the same, but for one that shows the
    /// usage of a quota.
    pub(super) fn data_for(&self, path: &ZnodePath, wanted: Option<&Data>) -> Option<Data> {
        let quota = subject(path.as_str(), STATS).and_then(|top| self.quotas.get(top));
        quota.map_or_else(|| wanted.cloned(), |quota| Some(quota.to_data()))
    }

    /// Finds all quotas and counts what they use: for a tree that was loaded. Cost: O(what the quotas speak of).
    pub(super) fn find_quotas(&mut self) {
        let limits = self.descendants(ROOT).filter(|(path, _)| path.as_str().ends_with(LIMITS));
        let limits: Vec<ZnodePath> = limits.map(|(path, _)| path.clone()).collect();
        limits.iter().for_each(|path| self.follow_limits(path));
    }
}

#[cfg(test)]
mod tests {
    use super::{Quota, QuotaLimits, subject};
    use crate::types::Data;

    #[test]
    fn limits_read_what_zkcli_writes() {
        let parse = |text: &str| QuotaLimits::parse(Some(&Data::new(text.as_bytes())));
        let none = QuotaLimits::default();
        assert_eq!(parse("count=5,bytes=-1"), QuotaLimits { znodes: Some(5), ..none });
        let hard = "count=-1,bytes=7=;byteHardLimit=9;countHardLimit=3";
        let expected =
            QuotaLimits { znodes: None, bytes: Some(7), znodes_hard: Some(3), bytes_hard: Some(9) };
        assert_eq!(parse(hard), expected);
        assert_eq!(parse("count=0"), QuotaLimits { znodes: Some(0), ..none });
        for without in
            ["", "count", "count=x", "count=,bytes=", "nonsense", "count=99999999999999999999"]
        {
            assert_eq!(parse(without), none, "{without:?}");
        }
        assert_eq!(QuotaLimits::parse(None), none);
        assert_eq!(QuotaLimits::parse(Some(&Data::new(&[0xff]))), none);
    }

    #[test]
    fn a_quota_belongs_to_a_path_outside_of_zookeeper() {
        let of = |path| subject(path, "/zookeeper_limits");
        assert_eq!(of("/zookeeper/quota/a/b/zookeeper_limits"), Some("/a/b"));
        assert_eq!(of("/zookeeper/quota/zookeeperx/zookeeper_limits"), Some("/zookeeperx"));
        for none in [
            "/zookeeper/quota/zookeeper_limits",
            "/zookeeper/quota/zookeeper/zookeeper_limits",
            "/zookeeper/quota/zookeeper/quota/zookeeper_limits",
            "/zookeeper/quotas/a/zookeeper_limits",
            "/zookeeper/quota/a/zookeeper_stats",
            "/a/zookeeper_limits",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn a_limit_holds_for_more_than_it_allows_and_never_for_less() {
        let limits = QuotaLimits { znodes_hard: Some(2), bytes: Some(5), ..QuotaLimits::default() };
        let quota = Quota { limits, znodes: 2, bytes: 5 };
        assert!(quota.has_room(0, 100) && !quota.has_room(1, 0) && !quota.is_exceeded());
        assert!(Quota { bytes: 6, ..quota }.is_exceeded());
        let over = Quota { znodes: 9, ..quota };
        assert!(over.has_room(0, 1), "what is over the limit may still change its data");
    }
}
