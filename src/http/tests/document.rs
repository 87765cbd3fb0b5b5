use serde_json::Value;

use super::Bed;

#[tokio::test]
async fn the_document_and_the_router_have_the_same_operations() {
    let bed = Bed::new().await;
    let document = bed.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 20, "{}", paths.len());
    for (template, item) in paths {
        let url = template.replace(['{', '}'], "");
        // A method that no operation has: the refusal lists those there are.
        let got = bed.send(&format!("TRACE {url}"), &[], "").await;
        assert_eq!(got.status, 405, "{template}");
        let mut allowed: Vec<_> =
            got.header("allow").unwrap().split(',').map(str::to_ascii_lowercase).collect();
        let mut described: Vec<_> = item.as_object().unwrap().keys().cloned().collect();
        if described.contains(&"get".to_owned()) && !described.contains(&"head".to_owned()) {
            described.push("head".to_owned());
        }
        allowed.sort();
        described.sort();
        assert_eq!(allowed, described, "{template}");
    }
    let page = bed.door.meters().templates();
    assert_eq!(page.len(), paths.len());
    for template in page {
        assert!(paths.contains_key(&template), "{template} is a route without an operation");
    }
}

#[tokio::test]
async fn the_document_is_complete() {
    let bed = Bed::new().await;
    let document = bed.get("/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = std::collections::BTreeSet::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {template}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{name}");
            assert!(operation["summary"].is_string(), "{name}");
            let tags = &operation["tags"][0];
            let is_for_clients = tags != "cluster" && tags != "operation";
            assert_eq!(operation["security"].is_array(), is_for_clients, "{name}");
            let responses = operation["responses"].as_object().unwrap();
            let error = &responses["default"]["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(error, "#/components/schemas/Error", "{name}");
            let ok: Vec<_> = responses.keys().filter(|status| status.starts_with('2')).collect();
            assert!(!ok.is_empty(), "{name}");
            for status in ok {
                assert!(responses[status]["headers"]["Roost-Zxid"].is_object(), "{name}");
                assert!(method == "head" || responses[status]["content"].is_object(), "{name}");
            }
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            for part in template.split('{').skip(1) {
                let part = part.split('}').next().unwrap();
                let declared = parameters.iter().any(|p| p["name"] == part && p["in"] == "path");
                assert!(declared, "{name} does not declare {part}");
            }
            let mut names: Vec<_> =
                parameters.iter().map(|p| (p["in"].to_string(), p["name"].to_string())).collect();
            names.sort();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{name}: {names:?}");
        }
    }
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect_references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "$ref" => into.push(text.clone()),
                    _ => collect_references(value, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
    }
}

#[tokio::test]
async fn answers_are_what_the_document_promises() {
    let bed = Bed::new().await;
    let (id, token) = bed.session().await;
    let auth = [("roost-session", token.as_str())];
    bed.post("/v1/znodes/a", "x").await;
    bed.post("/v1/znodes/a/b", vec![0xff]).await;
    let provider = r#"{"host":"h","port":1}"#;
    bed.send("POST /v1/services/web/providers", &auth, provider).await;
    let document = bed.get("/openapi.json").await.json();
    for (what, template) in [
        ("GET /v1/znodes/a", "/v1/znodes/{path}"),
        ("GET /v1/children/a?values=true&stats=true", "/v1/children/{path}"),
        ("GET /v1/acl/a", "/v1/acl/{path}"),
        ("POST /v1/znodes/c", "/v1/znodes/{path}"),
        ("PUT /v1/znodes/c", "/v1/znodes/{path}"),
        ("DELETE /v1/znodes/c", "/v1/znodes/{path}"),
        ("GET /v1/znodes/none", "/v1/znodes/{path}"),
        ("GET /v1/sessions", "/v1/sessions"),
        (&format!("GET /v1/sessions/{id}"), "/v1/sessions/{session}"),
        (&format!("PUT /v1/sessions/{id}"), "/v1/sessions/{session}"),
        ("GET /v1/services", "/v1/services"),
        ("GET /v1/services/web", "/v1/services/{name}"),
        ("GET /v1/sd/prometheus?service=web,none", "/v1/sd/prometheus"),
        ("GET /v1/poll?watch=subtree:/", "/v1/poll"),
        ("GET /v1/poll?watch=subtree:/&since=0", "/v1/poll"),
        ("GET /v1/policies", "/v1/policies"),
        ("GET /v1/policies/disconnect/none", "/v1/policies/{kind}/{name}"),
        ("DELETE /v1/policies/disconnect/none", "/v1/policies/{kind}/{name}"),
        ("GET /v1/cluster", "/v1/cluster"),
        ("GET /v1/digest", "/v1/digest"),
        ("GET /healthz", "/healthz"),
        ("GET /readyz", "/readyz"),
        (&format!("DELETE /v1/sessions/{id}"), "/v1/sessions/{session}"),
    ] {
        let got = bed.send(what, &auth, "").await;
        let method = what.split(' ').next().unwrap().to_ascii_lowercase();
        let responses = &document["paths"][template][&method]["responses"];
        let described = responses.get(got.status.to_string()).unwrap_or(&responses["default"]);
        let schema = &described["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{what} answers {} without a schema", got.status);
        let mut whole = document.clone();
        for (name, value) in schema.as_object().unwrap() {
            whole[name] = value.clone();
        }
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        let errors: Vec<_> = validator.iter_errors(&got.json()).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{what}: {errors:?} in {}", got.json());
    }
}
