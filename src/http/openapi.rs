//! The document at `/openapi.json`. Its operations come from the handlers; what holds for all of them is
//! added here, once: the headers that every answer has, the errors that every request may meet, and the
//! headers that any may carry.

use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::response::Response;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, InfoBuilder, License, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr, Required,
};
use utoipa::{PartialSchema, ToSchema};

use super::error::ErrorBody;
use super::extract::{IDEMPOTENCY_KEY, SESSION};

/// The name of the scheme by which a client proves to be somebody.
const PASSWORD: &str = "password";
/// The rest of a URL, as the router writes it.
pub(crate) const WILDCARD: &str = "{*path}";

/// Returns a URL as the document writes it.
pub(crate) fn plain(template: &str) -> String {
    template.replace(WILDCARD, "{path}")
}

/// Returns the document without operations.
pub(crate) fn head() -> OpenApi {
    let info = InfoBuilder::new()
        .title("roost")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A service registry that is always right. docs/HTTP.md explains what a list cannot.",
        ))
        .license(Some(License::new("Apache-2.0")))
        .build();
    OpenApiBuilder::new().info(info).build()
}

/// Adds to a document of operations what they have in common.
pub(crate) fn complete(mut api: OpenApi) -> OpenApi {
    let components = api.components.get_or_insert_default();
    components.schemas.insert(ErrorBody::name().into_owned(), ErrorBody::schema());
    let mut password = Http::new(HttpAuthScheme::Basic);
    password.description = Some("The `digest` identity of a name and a password".to_owned());
    components.add_security_scheme(PASSWORD, SecurityScheme::Http(password));
    let paths = std::mem::take(&mut api.paths.paths);
    for (template, mut item) in paths {
        for (writes, operation) in operations(&mut item) {
            complete_operation(&template, writes, operation);
        }
        api.paths.paths.insert(plain(&template), item);
    }
    api
}

/// Yields the operations of a URL, and whether they write.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let PathItem { get, head, post, put, delete, .. } = item;
    let reads = [get, head].into_iter().flatten().map(|operation| (false, operation));
    let writes = [post, put, delete].into_iter().flatten().map(|operation| (true, operation));
    reads.chain(writes)
}

fn complete_operation(template: &str, writes: bool, operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_default();
    let stale = parameters.iter().any(|parameter| parameter.name == "consistency");
    let client = template.starts_with("/v1/")
        && !template.starts_with("/v1/cluster")
        && template != "/v1/digest";
    let mut offer = |name: &str, about: &str| {
        if !parameters.iter().any(|parameter| parameter.name.eq_ignore_ascii_case(name)) {
            parameters.push(header_parameter(name, about));
        }
    };
    if client {
        let nobody = SecurityRequirement::default();
        let somebody = SecurityRequirement::new(PASSWORD, Vec::<String>::new());
        operation.security = Some(vec![nobody, somebody]);
        offer("Roost-Session", "The token of a session; the request renews it");
    }
    if client && writes && operation.operation_id.as_deref() != Some("renew_session") {
        offer(
            "Idempotency-Key",
            "1 to 128 bytes: a retry with the same key gets the first one's answer",
        );
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            answer_headers(response, stale);
        }
    }
    let mut error = Response::new("It did not work: `code` says why");
    let schema = Ref::from_schema_name(ErrorBody::name());
    error.content.insert("application/json".to_owned(), Content::new(Some(RefOr::Ref(schema))));
    answer_headers(&mut error, false);
    operation.responses.responses.insert("default".to_owned(), RefOr::T(error));
}

fn header_parameter(name: &str, about: &str) -> Parameter {
    debug_assert!(
        [&SESSION, &IDEMPOTENCY_KEY].iter().any(|known| known.as_str().eq_ignore_ascii_case(name))
    );
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(about))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

fn answer_headers(response: &mut Response, stale: bool) {
    let number = |about: &str| {
        Header::builder()
            .schema(ObjectBuilder::new().schema_type(Type::Integer))
            .description(Some(about))
            .build()
    };
    let headers = &mut response.headers;
    headers.insert("Roost-Zxid".to_owned(), number("The state that the answer speaks of"));
    headers.insert("Roost-Node".to_owned(), number("The node that gave the answer"));
    if stale {
        let about = "Of a stale read: ms since the node last had proof of being up to date";
        headers.insert("Roost-Age-Ms".to_owned(), number(about));
    }
}
