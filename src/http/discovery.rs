//! Lists of providers in the words of other programs: Prometheus's HTTP service discovery and nginx's upstreams.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::answer;
use super::error::Failed;
use super::extract::{Caller, Params};
use super::read::{self, Freshness};
use super::service_view::{self, ServiceView};
use super::service_wanted::Wanted;
use crate::limits::DISCOVERY_SERVICES_MAX;
use crate::node::View;
use crate::registry::{Health, Instance, namespaced, service_path};
use crate::types::Code;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrometheusParams {
    /// One service, or several with commas.
    service: String,
    /// Of which namespace; the default one when left out.
    #[serde(default)]
    namespace: String,
    /// Which state to answer from; `stale` when left out, so that scraping goes on without a quorum.
    #[param(inline)]
    consistency: Option<Freshness>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct NginxParams {
    /// The service.
    upstream: String,
    /// Of which namespace; the default one when left out.
    #[serde(default)]
    namespace: String,
    /// Name of the upstream; that of the service when left out.
    name: Option<String>,
    /// Which state to answer from; `stale` when left out.
    #[param(inline)]
    consistency: Option<Freshness>,
}

/// A group of targets that have the same labels: one provider.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TargetGroup)]
pub(crate) struct TargetGroupBody {
    /// `host:port`.
    targets: Vec<String>,
    /// `__meta_roost_service`, `_id`, `_status`, `_health`, `_weight`, and `__meta_roost_metadata_<key>` for each of the metadata.
    labels: BTreeMap<String, String>,
}

/// Gives the providers of services to Prometheus (`http_sd_configs`).
#[utoipa::path(get, path = "/v1/sd/prometheus", tag = "services", params(PrometheusParams),
    responses((status = 200, description = "A group of targets for each provider", body = Vec<TargetGroupBody>)))]
pub(crate) async fn prometheus_targets(
    State(door): State<Door>,
    Params(params): Params<PrometheusParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let services: Vec<&str> = params.service.split(',').collect();
    if services.contains(&"") {
        let why = format!("service is {:?}: it has an empty name", params.service);
        return Err(Failed::bad_arguments(why));
    }
    if services.len() > DISCOVERY_SERVICES_MAX {
        let why = format!("{} services: at most {DISCOVERY_SERVICES_MAX}", services.len());
        return Err(Failed::bad_arguments(why));
    }
    let view = read::view(&door, params.consistency.or(Some(Freshness::Stale)), None).await?;
    let mut groups = Vec::new();
    for service in services {
        let wanted = wanted(&params.namespace, service)?;
        let providers = providers(&door, &view, wanted, false, &caller)?;
        groups.extend(providers.iter().map(|found| group(service, found)));
    }
    let response = answer::json_at(StatusCode::OK, view.tree.zxid(), &groups);
    Ok(read::aged(&view, response))
}

/// Gives the providers of a service that take traffic, without those whose probes fail unless that is all, as an `upstream` block for nginx.
#[utoipa::path(get, path = "/v1/sd/nginx", tag = "services", params(NginxParams),
    responses((status = 200, description = "The block", body = String, content_type = "text/plain")))]
pub(crate) async fn nginx_upstream(
    State(door): State<Door>,
    Params(params): Params<NginxParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let name = params.name.as_deref().unwrap_or(&params.upstream);
    if name.is_empty() || !name.chars().all(is_name) {
        let why =
            format!("{name:?} cannot be the name of an upstream: letters, digits and `_.-` can");
        return Err(Failed::bad_arguments(why));
    }
    let view = read::view(&door, params.consistency.or(Some(Freshness::Stale)), None).await?;
    let wanted = wanted(&params.namespace, &params.upstream)?;
    let text = upstream(name, &providers(&door, &view, wanted, true, &caller)?);
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    let mut response = answer::with_type(StatusCode::OK, plain, text);
    response.headers_mut().insert(answer::ZXID, HeaderValue::from(view.tree.zxid().0));
    Ok(read::aged(&view, response))
}

/// Returns what is asked for. A name that cannot be one is an error.
fn wanted(namespace: &str, service: &str) -> Result<Wanted, Failed> {
    namespaced(namespace, &service_path(service)?)?;
    let (namespace, service) = (namespace.to_owned(), service.to_owned());
    Ok(Wanted { namespace, service, ..Wanted::default() })
}

/// An instance: its id, how it stands, and what it says.
type Found = (String, Health, Instance);

/// Returns the instances of a service that the caller may read and that somebody could call, in whatever layout, by id;
/// those who have lost their address to another are not among them. A service that does not exist has none: other programs
/// take an error for a failure of the registry.
fn providers(
    door: &Door,
    view: &View,
    wanted: Wanted,
    healthy_only: bool,
    caller: &Caller,
) -> Result<Vec<Found>, Failed> {
    service_view::admit(door, caller, &view.tree, &wanted)?;
    let mut instances = match ServiceView::of(&view.tree, &caller.authority, wanted) {
        Ok(service) => service.instances(),
        Err(failed) if failed.is(Code::NoNode) => return Ok(Vec::new()),
        Err(failed) => return Err(failed),
    };
    if healthy_only {
        instances.only_healthy();
    }
    let found = instances.all.into_iter();
    Ok(found.map(|(main, _)| (main.path.name().to_owned(), main.health.0, main.instance)).collect())
}

fn group(service: &str, (id, health, provider): &Found) -> TargetGroupBody {
    let label = |name: &str, value: &str| (format!("__meta_roost_{name}"), value.to_owned());
    let mut labels = BTreeMap::from([
        label("service", service),
        label("id", id),
        label("status", &provider.status),
        label("health", health.name()),
        label("weight", &provider.weight.to_string()),
    ]);
    for (key, value) in &provider.metadata {
        let key: String =
            key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        labels.insert(format!("__meta_roost_metadata_{key}"), value.clone());
    }
    TargetGroupBody { targets: vec![provider.addr()], labels }
}

/// Returns an `upstream` block of those that take traffic. What providers say of themselves ends up in another program's
/// configuration, so a host that is not a name or an address is left out.
fn upstream(name: &str, providers: &[Found]) -> String {
    let mut text = format!("upstream {name} {{\n");
    let mut servers = 0;
    for (.., provider) in providers {
        let takes_traffic = provider.status == "up" && provider.weight > 0;
        if takes_traffic && provider.host.chars().all(|c| is_name(c) || ":[]".contains(c)) {
            let (addr, weight) = (provider.addr(), provider.weight);
            writeln!(text, "    server {addr} weight={weight};").expect("writing to a string");
            servers += 1;
        }
    }
    if servers == 0 {
        // nginx refuses an upstream without servers; with this one it answers 502.
        text += "    server 127.0.0.1:1 down;\n";
    }
    text + "}\n"
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.-".contains(c)
}

#[cfg(test)]
mod tests {
    use super::{Health, Instance, group, upstream};
    use crate::registry::{Layouts, instance};

    fn provider(host: &str, weight: u32, status: &str) -> Instance {
        let json = serde_json::json!({
            "host": host, "port": 80, "weight": weight, "status": status, "metadata": {"zone-id": "a\"b"}
        });
        let layouts = Layouts::default();
        let list = layouts.list_at("/services/web/providers").unwrap();
        instance(&list, "a", Some(json.to_string().as_bytes())).unwrap()
    }

    #[test]
    fn an_upstream_has_those_that_take_traffic_and_nothing_that_nginx_would_read_as_more() {
        let all = [
            ("a".to_owned(), Health::Healthy, provider("10.0.0.1", 7, "up")),
            ("b".to_owned(), Health::Healthy, provider("::1", 100, "up")),
            ("c".to_owned(), Health::Healthy, provider("10.0.0.2", 0, "up")),
            ("d".to_owned(), Health::Healthy, provider("10.0.0.3", 9, "draining")),
            ("e".to_owned(), Health::Healthy, provider("x; } server evil", 9, "up")),
        ];
        let expected = "upstream web {\n    server 10.0.0.1:80 weight=7;\n    server [::1]:80 weight=100;\n}\n";
        assert_eq!(upstream("web", &all), expected);
        assert_eq!(upstream("web", &all[2..]), "upstream web {\n    server 127.0.0.1:1 down;\n}\n");
    }

    #[test]
    fn a_target_has_the_metadata_as_labels_that_prometheus_takes() {
        let found = ("a".to_owned(), Health::Suspect, provider("::1", 7, "up"));
        let group = group("web", &found);
        assert_eq!(group.targets, ["[::1]:80"]);
        let labels: Vec<(&str, &str)> =
            group.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            labels,
            [
                ("__meta_roost_health", "suspect"),
                ("__meta_roost_id", "a"),
                ("__meta_roost_metadata_zone_id", "a\"b"),
                ("__meta_roost_service", "web"),
                ("__meta_roost_status", "up"),
                ("__meta_roost_weight", "7"),
            ]
        );
    }
}
