use super::error::Failed;
use super::extract::Caller;
use super::register::RegistrationBody;
use crate::limits::DATA_BYTES_MAX;
use crate::registry::{
    Layout, Provider, STATUS_DEFAULT, WEIGHT_DEFAULT, namespaced, providers_path,
};
use crate::tree::Tree;
use crate::types::{Code, CreateMode, Data, Error, Op, SessionId, ZnodePath};

/// An ephemeral znode to be there with this data, whether it is new or the session's already.
pub(crate) struct Entry {
    pub(crate) service: String,
    pub(crate) id: String,
    pub(crate) parent: ZnodePath,
    pub(crate) path: ZnodePath,
    pub(crate) data: Data,
    /// The session that may lose it to this one.
    pub(crate) takes_over: Option<SessionId>,
}

impl Entry {
    /// Error: the data are too long, or the id cannot be a name.
    pub(crate) fn new(
        service: String,
        id: String,
        parent: ZnodePath,
        data: &[u8],
    ) -> Result<Entry, Failed> {
        let path = parent.child(&id)?;
        if data.len() > DATA_BYTES_MAX {
            let limit = DATA_BYTES_MAX as u64;
            return Err(Error::TooLarge { what: "the registration, in bytes,", limit }.into());
        }
        Ok(Entry { service, id, parent, path, data: Data::new(data), takes_over: None })
    }

    /// Returns the entry of a provider; `space` and `named` are the namespace and the service that the URL names, if it does.
    pub(crate) fn provider(
        space: Option<&str>,
        named: Option<String>,
        body: RegistrationBody,
    ) -> Result<Entry, Failed> {
        let RegistrationBody {
            service,
            namespace,
            id,
            host,
            port,
            weight,
            metadata,
            status,
            group,
            metadata_revision,
            takes_over: _,
        } = body;
        let service = match (named, service) {
            (Some(named), Some(service)) if named != service => {
                let why = format!("service is {service:?}, but the URL names {named:?}");
                return Err(Failed::bad_arguments(why));
            }
            (Some(service), _) | (None, Some(service)) => service,
            (None, None) => return Err(Failed::bad_arguments("service is missing")),
        };
        let namespace = match (space, namespace) {
            (Some(space), Some(namespace)) if space != namespace => {
                let why = format!("namespace is {namespace:?}, but the URL names {space:?}");
                return Err(Failed::bad_arguments(why));
            }
            (Some(space), _) => space.to_owned(),
            (None, namespace) => namespace.unwrap_or_default(),
        };
        let weight = weight.unwrap_or(WEIGHT_DEFAULT);
        let status = status.unwrap_or_else(|| STATUS_DEFAULT.to_owned());
        let provider = Provider { host, port, weight, metadata, status, group, metadata_revision };
        provider.check().map_err(Failed::bad_arguments)?;
        let id = id.unwrap_or_else(|| provider.default_id());
        let parent = namespaced(&namespace, &providers_path(&service)?)?;
        Entry::new(service, id, parent, &provider.to_data())
    }

    /// Returns the ops that bring the entry about when the tree is this.
    pub(crate) fn ops(&self, tree: &Tree, session: SessionId) -> Vec<Op> {
        let data = Some(self.data.clone());
        let create = |data| Op::Create {
            parent: self.parent.clone(),
            name: self.id.clone(),
            data,
            acl: tree.rules_below(&self.parent),
            mode: CreateMode::Ephemeral,
        };
        let present = tree.get(self.path.as_str());
        match present.and_then(|znode| Some((znode.ephemeral_owner()?, znode.stat().czxid))) {
            // Whether it still is when this is applied is for the tree to say.
            Some((owner, _)) if owner == session => {
                vec![Op::SetOwn { path: self.path.clone(), data }]
            }
            // An ephemeral never changes its owner, so what was created at that zxid is still its. If it has gone, or come
            // anew, it is left alone.
            Some((owner, czxid)) if self.takes_over == Some(owner) => {
                let candidates = vec![(self.path.clone(), czxid)];
                vec![Op::Deregister { candidates }, create(data)]
            }
            // If somebody else has it this is refused, which is as true as an answer can be.
            _ => vec![create(data)],
        }
    }

    /// Returns the refusal if another session has the entry.
    pub(crate) fn held(&self, tree: &Tree, session: SessionId) -> Option<Failed> {
        let owner = tree.get(self.path.as_str())?.ephemeral_owner();
        if owner == Some(session) || owner.is_some() && owner == self.takes_over {
            return None;
        }
        let holder = owner.map_or("no session".to_owned(), |owner| format!("session {owner}"));
        let why = format!("{} exists already and belongs to {holder}", self.path);
        Some(Failed::because(Code::NodeExists, why))
    }
}

/// Returns the refusal of what a list or a tombstone forbids.
pub(crate) fn blocked(tree: &Tree, caller: &Caller, entries: &[Entry]) -> Failed {
    let tombstone = |(index, entry): (usize, &Entry)| {
        let Entry { path, data, .. } = entry;
        let found = tree.tombstone_of(path, Some(data), true, &caller.authority)?;
        let why = format!("{path} was deregistered and is kept from coming back by {found}");
        let failed = Failed::because(Code::NoAuth, why);
        Some(if entries.len() > 1 { failed.in_item(index) } else { failed })
    };
    let found = entries.iter().enumerate().find_map(tombstone);
    found.unwrap_or_else(|| Failed::code(Code::NoAuth))
}
