//! A service, its instances and what is wrong with them, as JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::service_view::{Registered, ServiceView};
use super::service_wanted::Wanted;
use crate::registry::{Category, Endpoint, Health, Instance};
use crate::types::{Stat, ZnodePath, Zxid};

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Service)]
pub(crate) struct ServiceBody<'a> {
    name: &'a str,
    /// The default one is empty.
    namespace: &'a str,
    /// Sorted by id.
    providers: Vec<ProviderBody<'a>>,
    /// Sorted by list and id.
    consumers: Vec<ConsumerBody<'a>>,
    /// Registrations whose address another session has registered since.
    conflicts: Vec<ConflictBody<'a>>,
    /// Znodes among the providers or consumers that say nothing of the kind.
    unparsable: Vec<UnparsableBody<'a>>,
    /// Zxid of the newest change of its lists of instances.
    revision: u64,
    /// 16 hex digits: equal lists of instances have equal signs.
    sign: String,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Provider)]
pub(crate) struct ProviderBody<'a> {
    id: &'a str,
    host: String,
    port: u16,
    weight: u32,
    metadata: BTreeMap<String, String>,
    status: String,
    /// How it stands, whatever it says: `unhealthy` when the registry's probes of it fail, `suspect` while its session is silent
    /// and its end is put off, else `healthy`.
    health: &'static str,
    /// Null when its znode is not ephemeral.
    session: Option<String>,
    czxid: u64,
    version: i32,
    /// Another number is another registration, whatever the id and the address: the zxid of its creation.
    incarnation: u64,
    /// Zxid of the last change of what it says, of its health, of the rules of Dubbo that mean it, or of how its layout is read.
    modified: u64,
    path: &'a str,
    /// `roost`, `dubbo`, `curator`, `spring`, `dubbo_application`, `motan`, `kratos`, `serverset`, or the name of a policy that
    /// describes it.
    layout: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// Version of the service, where the framework has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata_revision: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    endpoints: Vec<EndpointBody>,
    /// What the instance says itself where an override, or a rule of Dubbo, shows something else, by JSON pointer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    declared: BTreeMap<String, Value>,
    /// What else registers the same instance, in other layouts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    origins: Vec<OriginBody<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub(crate) struct EndpointBody {
    /// Empty where none is named.
    protocol: String,
    host: String,
    port: u16,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Origin)]
pub(crate) struct OriginBody<'a> {
    layout: Cow<'static, str>,
    path: &'a str,
    session: Option<String>,
    incarnation: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Consumer)]
pub(crate) struct ConsumerBody<'a> {
    id: &'a str,
    metadata: BTreeMap<String, String>,
    /// Null when its znode is not ephemeral.
    session: Option<String>,
    czxid: u64,
    version: i32,
    layout: &'a str,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conflict)]
pub(crate) struct ConflictBody<'a> {
    /// The one that is superseded.
    #[serde(flatten)]
    loser: OriginBody<'a>,
    host: String,
    port: u16,
    /// Znode of the one that has the address now.
    winner: &'a str,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Unparsable)]
pub(crate) struct UnparsableBody<'a> {
    id: &'a str,
    reason: String,
    path: &'a str,
    layout: &'a str,
    incarnation: u64,
    modified: u64,
}

impl<'a> ProviderBody<'a> {
    /// `health` is how it stands, and since which zxid it does and is read as it is.
    pub(crate) fn new(
        path: &'a ZnodePath,
        stat: &Stat,
        health: (Health, Zxid),
        instance: Instance,
    ) -> ProviderBody<'a> {
        let endpoint = |Endpoint { protocol, host, port }| EndpointBody { protocol, host, port };
        ProviderBody {
            id: path.name(),
            host: instance.host,
            port: instance.port,
            weight: instance.weight,
            metadata: instance.metadata,
            status: instance.status,
            health: health.0.name(),
            session: session(stat),
            czxid: stat.czxid.0,
            version: stat.version,
            incarnation: stat.czxid.0,
            modified: stat.mzxid.max(health.1).0,
            path: path.as_str(),
            layout: instance.layout,
            group: instance.group,
            release: instance.release,
            metadata_revision: instance.metadata_revision,
            endpoints: instance.endpoints.into_iter().map(endpoint).collect(),
            declared: BTreeMap::new(),
            origins: Vec::new(),
        }
    }
}

impl<'a> UnparsableBody<'a> {
    pub(crate) fn new(
        path: &'a ZnodePath,
        stat: &Stat,
        health: (Health, Zxid),
        layout: &'a str,
        reason: String,
    ) -> UnparsableBody<'a> {
        let (incarnation, modified) = (stat.czxid.0, stat.mzxid.max(health.1).0);
        UnparsableBody {
            id: path.name(),
            reason,
            path: path.as_str(),
            layout,
            incarnation,
            modified,
        }
    }
}

impl<'a> ConflictBody<'a> {
    pub(crate) fn new(loser: Registered<'a>, winner: &'a ZnodePath) -> ConflictBody<'a> {
        let (host, port) = (loser.instance.host.clone(), loser.instance.port);
        ConflictBody { loser: origin(loser), host, port, winner: winner.as_str() }
    }
}

fn origin(registered: Registered<'_>) -> OriginBody<'_> {
    let Registered { path, stat, instance, .. } = registered;
    let (session, incarnation) = (session(&stat), stat.czxid.0);
    OriginBody { layout: instance.layout, path: path.as_str(), session, incarnation }
}

/// Returns the session that a registration lives with, if it is one.
fn session(stat: &Stat) -> Option<String> {
    (!stat.ephemeral_owner.is_none()).then(|| stat.ephemeral_owner.to_string())
}

/// Returns a sign as answers have it.
pub(crate) fn sign_text(sign: u64) -> String {
    format!("{sign:016x}")
}

/// Returns all of a service; with `healthy_only` without the instances whose probes fail, unless all do.
pub(crate) fn service_body<'a>(
    service: &'a ServiceView<'a>,
    healthy_only: bool,
    zxid: u64,
) -> ServiceBody<'a> {
    let Wanted { namespace, service: name, .. } = service.wanted();
    let mut found = service.instances();
    if healthy_only {
        found.only_healthy();
    }
    let provider = |(main, others): (Registered<'a>, Vec<Registered<'a>>)| {
        let declared = service.declared(&main);
        let mut body = ProviderBody::new(main.path, &main.stat, main.health, main.instance);
        body.declared = declared;
        body.origins = others.into_iter().map(origin).collect();
        body
    };
    let (revision, sign) = service.state(true);
    let mut body = ServiceBody {
        name,
        namespace,
        providers: found.all.into_iter().map(provider).collect(),
        consumers: Vec::new(),
        conflicts: found
            .conflicts
            .into_iter()
            .map(|(loser, winner)| ConflictBody::new(loser, winner))
            .collect(),
        unparsable: Vec::new(),
        revision: revision.0,
        sign: sign_text(sign),
        zxid,
    };
    for (entry, reason) in found.unparsable {
        let (stat, layout) = (entry.stat(), entry.list.layout.name());
        body.unparsable.push(UnparsableBody::new(entry.path, &stat, entry.health, layout, reason));
    }
    for entry in service.entries(|category| category == Category::Consumer) {
        let (stat, layout) = (entry.stat(), entry.list.layout.name());
        match entry.consumer() {
            Err(reason) => {
                body.unparsable.push(UnparsableBody::new(
                    entry.path,
                    &stat,
                    entry.health,
                    layout,
                    reason,
                ));
            }
            Ok(metadata) => body.consumers.push(ConsumerBody {
                id: entry.path.name(),
                metadata,
                session: session(&stat),
                czxid: stat.czxid.0,
                version: stat.version,
                layout,
            }),
        }
    }
    body
}
