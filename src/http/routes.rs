use axum::Router;
use axum::body::Bytes;
use axum::middleware::from_fn_with_state;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use super::Door;
use super::front::{Front, front, nowhere};
use super::openapi;
use super::{
    audit, cluster, deregister, discovery, drain, multi, namespaces, operation, overrides,
    policies, policy_trial, protection, register, service_metadata, service_stream, services,
    sessions, subscribers, versions, watch, znodes,
};

/// Returns the service that answers requests: every URL, with whatever goes wrong as documented JSON.
pub fn router(door: Door) -> Router {
    let (router, operations) = declare(&door);
    let document = openapi::complete(operations).to_json().expect("the document is plain JSON");
    door.document().get_or_init(|| Bytes::from(document));
    router.fallback(nowhere).with_state(door)
}

/// Declares every route, once.
fn declare(door: &Door) -> (Router<Door>, OpenApi) {
    let routes = Routes { door, api: OpenApiRouter::with_openapi(openapi::head()) };
    routes
        .tree(routes!(
            znodes::get_znode,
            znodes::head_znode,
            znodes::create_znode,
            znodes::set_data,
            znodes::delete_znode
        ))
        .tree(routes!(znodes::get_children))
        .tree(routes!(znodes::get_acl, znodes::set_acl))
        .bounded(routes!(multi::multi))
        .bounded(routes!(sessions::open_session, sessions::list_sessions))
        .bounded(routes!(sessions::renew_session, sessions::close_session, sessions::get_session))
        .bounded(routes!(services::list_services))
        .bounded(routes!(services::get_service))
        .bounded(routes!(services::list_conflicts))
        .bounded(routes!(service_metadata::put_metadata, service_metadata::get_metadata))
        .bounded(routes!(namespaces::list_services_in))
        .bounded(routes!(namespaces::get_service_in))
        .bounded(routes!(namespaces::register_provider_in))
        .bounded(routes!(namespaces::deregister_provider_in))
        .bounded(routes!(namespaces::register_consumer_in, namespaces::deregister_consumer_in))
        .bounded(routes!(discovery::prometheus_targets))
        .bounded(routes!(discovery::nginx_upstream))
        .bounded(routes!(register::register_provider))
        .bounded(routes!(register::deregister_provider))
        .bounded(routes!(register::register_consumer, register::deregister_consumer))
        .bounded(routes!(register::register))
        .bounded(routes!(deregister::deregister))
        .free(routes!(drain::drain_provider, drain::get_drain))
        .free(routes!(namespaces::drain_provider_in, namespaces::get_drain_in))
        .free(routes!(drain::drain_instance))
        .bounded(routes!(subscribers::get_subscribers))
        .bounded(routes!(overrides::list_effects))
        .bounded(routes!(protection::get_protection))
        .bounded(routes!(protection::confirm_removal))
        .bounded(routes!(policies::list_policies))
        .bounded(routes!(policies::get_policy, policies::set_policy, policies::remove_policy))
        .bounded(routes!(policy_trial::test_policy))
        .bounded(routes!(audit::get_audit))
        .free(routes!(watch::subscribe_service))
        .free(routes!(namespaces::subscribe_service_in))
        .free(routes!(watch::watch, service_stream::watch_services))
        .free(routes!(versions::watch_version))
        .bounded(routes!(versions::get_version))
        .bounded(routes!(versions::versions))
        .free(routes!(watch::poll))
        .free(routes!(cluster::get_cluster))
        .bounded(routes!(cluster::init_cluster))
        .bounded(routes!(cluster::add_learner))
        .bounded(routes!(cluster::promote_node))
        .bounded(routes!(cluster::remove_node))
        .bounded(routes!(cluster::transfer_leadership))
        .free(routes!(operation::get_digest))
        .free(routes!(operation::healthz))
        .free(routes!(operation::readyz))
        .free(routes!(operation::metrics))
        .free(routes!(operation::commands))
        .free(routes!(operation::command))
        .free(routes!(operation::openapi_json))
        .api
        .split_for_parts()
}

/// The routes declared so far.
struct Routes<'a> {
    door: &'a Door,
    api: OpenApiRouter<Door>,
}

impl Routes<'_> {
    /// Adds the methods of one URL, whose requests are bounded in number.
    fn bounded(self, methods: UtoipaMethodRouter<Door>) -> Self {
        let methods = self.fronted(methods, true);
        Self { api: self.api.routes(methods), ..self }
    }

    /// Adds the methods of one URL, whose requests are not: they only wait, or serve to operate the node.
    fn free(self, methods: UtoipaMethodRouter<Door>) -> Self {
        let methods = self.fronted(methods, false);
        Self { api: self.api.routes(methods), ..self }
    }

    /// Adds the methods of a URL that ends in a znode's path. The root is a URL of its own to the router,
    /// for whose wildcard an empty rest is none; to the client it is the same operation.
    fn tree(self, methods: UtoipaMethodRouter<Door>) -> Self {
        let root = template(&methods).trim_end_matches(openapi::WILDCARD).to_owned();
        let (schemas, paths, methods) = self.fronted(methods, true);
        let api = self.api.routes((schemas, paths, methods.clone())).route(&root, methods);
        Self { api, ..self }
    }

    fn fronted(
        &self,
        methods: UtoipaMethodRouter<Door>,
        bounded: bool,
    ) -> UtoipaMethodRouter<Door> {
        let meter = self.door.meters().route(&openapi::plain(&template(&methods)));
        let state = Front { door: self.door.clone(), meter, bounded };
        let (schemas, paths, methods) = methods;
        (schemas, paths, methods.layer(from_fn_with_state(state, front)))
    }
}

/// Returns the URL that some methods belong to, as the router writes it.
fn template(methods: &UtoipaMethodRouter<Door>) -> String {
    methods.1.paths.keys().next().cloned().unwrap_or_default()
}
