use percent_encoding::percent_decode_str;

use super::*;
use crate::node::testing::{apply, path, put, with_session};
use crate::types::SessionId;

const PROVIDERS: &str = "/dubbo/com.a.Demo/providers";
const PROVIDER: &str =
    "dubbo%3A%2F%2F10.0.0.5%3A20880%2Fcom.a.Demo%3Fgroup%3Dg%26version%3D1.0%26side%3Dprovider";
const CONFIGURATORS: &str = "/dubbo/com.a.Demo/configurators";
const SPRING: &str = r#"{"name":"app","id":"i","address":"10.0.0.5","port":8080,"payload":{
    "@class":"org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","metadata":{"zone":"a"}}}"#;

fn delete(tree: &mut Tree, at: &str) {
    apply(tree, SessionId::NONE, Op::Delete { path: path(at), version: None });
}

fn set_override(tree: &mut Tree, name: &str, pattern: &str, terms: &str) {
    let json = format!(r#"{{"set_by":"a","reason":"b","pattern":"{pattern}",{terms}}}"#);
    put(tree, SessionId::NONE, &path_of(Kind::Overrides, name), &json);
}

/// Does what is planned, and checks that nothing is left to do then.
fn settle(tree: &mut Tree) {
    for op in plan(tree) {
        apply(tree, SessionId::NONE, op);
    }
    assert_eq!(plan(tree), [], "one look is enough");
}

fn configured(tree: &Tree) -> Vec<String> {
    let all = tree.get(CONFIGURATORS).into_iter().flat_map(|all| all.children());
    all.map(|path| percent_decode_str(path.name()).decode_utf8().unwrap().into_owned()).collect()
}

#[test]
fn consumers_of_a_dubbo_provider_are_told_of_an_override_until_it_goes() {
    let (mut tree, session) = with_session();
    let provider = format!("{PROVIDERS}/{PROVIDER}");
    put(&mut tree, session, &provider, "10.0.0.5");
    assert!(!is_needed(&tree) && plan(&tree).is_empty());
    set_override(&mut tree, "o", "/dubbo/*/providers/*", r#""ip":"10.0.0.5","weight":0"#);
    set_override(&mut tree, "no", "/dubbo/*/providers/*", r#""ip":"10.0.0.6","weight":0"#);
    set_override(&mut tree, "see", "/dubbo/**", r#""status":"out_of_service","mode":"observe""#);
    settle(&mut tree);
    let observed = |tree: &Tree| -> Vec<(String, String)> {
        observed(tree).into_iter().map(|one| (one.policy, one.path.to_string())).collect()
    };
    let seen = [("see".to_owned(), provider.clone())];
    assert_eq!(observed(&tree), seen, "once, and not what its configurators say");
    let url = "override://10.0.0.5:20880/com.a.Demo?category=configurators&dynamic=false&enabled=true&priority=1000000\
        &weight=0&group=g&version=1.0&roost=o";
    assert_eq!(configured(&tree), [url]);
    let configurator = tree.get(CONFIGURATORS).unwrap().children().next().unwrap().clone();
    assert_eq!(tree.get(configurator.as_str()).unwrap().ephemeral_owner(), None);

    // The provider restarts: what is said of it stays.
    delete(&mut tree, &provider);
    settle(&mut tree);
    assert_eq!(configured(&tree), [url]);
    put(&mut tree, session, &provider, "10.0.0.5");
    settle(&mut tree);
    assert_eq!(
        tree.get(configurator.as_str()).unwrap().stat().version,
        0,
        "nothing was done twice"
    );

    // It is set anew, with other terms; then it goes.
    delete(&mut tree, &path_of(Kind::Overrides, "o"));
    set_override(
        &mut tree,
        "o",
        "/dubbo/*/providers/*",
        r#""ip":"10.0.0.5","status":"out_of_service""#,
    );
    settle(&mut tree);
    let out = "disabled=true&roost.status=out_of_service";
    assert_eq!(configured(&tree), [url.replace("weight=0", out)]);
    delete(&mut tree, &path_of(Kind::Overrides, "o"));
    settle(&mut tree);
    assert_eq!(configured(&tree), Vec::<String>::new());
    assert_eq!(tree.get(EFFECTS).unwrap().num_children(), 0);
}

/// Returns what the configurators say beside whom they mean.
fn words(tree: &Tree) -> Vec<String> {
    let said = |url: String| {
        let (_, rest) = url.split_once("&priority=").unwrap();
        rest.replace("&group=g&version=1.0&roost=", " by ")
    };
    configured(tree).into_iter().map(said).collect()
}

#[test]
fn of_several_overrides_of_a_dubbo_provider_only_the_one_with_the_last_word_says_it() {
    let (mut tree, session) = with_session();
    let provider = format!("{PROVIDERS}/{PROVIDER}");
    put(&mut tree, session, &provider, "");
    let all = r#""weight":5,"labels":{"zone":"b","group":"x"}"#;
    set_override(&mut tree, "all", "/dubbo/**", all);
    settle(&mut tree);
    assert_eq!(words(&tree), ["1000000&weight=5&zone=b by all"]);
    set_override(&mut tree, "one", "/dubbo/com.a.Demo/providers/*", r#""status":"draining""#);
    settle(&mut tree);
    let drains = "disabled=false&roost.status=draining&weight=0 by one".to_owned();
    assert_eq!(words(&tree), [format!("1000000&{drains}"), "1000000&zone=b by all".to_owned()]);
    delete(&mut tree, &path_of(Kind::Overrides, "one"));
    settle(&mut tree);
    assert_eq!(words(&tree), ["1000000&weight=5&zone=b by all"]);

    // Who leaves comes behind all of them from the start.
    let czxid = tree.get(&provider).unwrap().stat().czxid.0;
    let (set_by, reason) = ("a".to_owned(), "b".to_owned());
    let drain = Drain { czxid, set_by, reason, expires_at_ms: 0 };
    let ops = of_drain(&tree, &path(&provider), &drain).unwrap();
    apply(&mut tree, SessionId::NONE, Op::Multi(ops));
    let leaves = format!("1000001&{}drain%2F{czxid}", drains.strip_suffix("one").unwrap());
    assert_eq!(words(&tree), ["1000000&weight=5&zone=b by all".to_owned(), leaves.clone()]);
    let note = Drain::note_of(&path(&provider)).unwrap();
    put(&mut tree, SessionId::NONE, note.as_str(), std::str::from_utf8(&drain.to_data()).unwrap());
    settle(&mut tree);
    assert_eq!(words(&tree), ["1000000&zone=b by all".to_owned(), leaves]);
}

#[test]
fn consumers_in_a_namespace_or_below_another_root_are_told_where_they_look() {
    for root in ["/ns/red/dubbo", "/rpc", "/halls/7/rpc"] {
        let (mut tree, session) = with_session();
        put(&mut tree, session, &format!("{root}/com.a.Demo/providers/{PROVIDER}"), "10.0.0.5");
        set_override(&mut tree, "o", &format!("{root}/**"), r#""weight":0"#);
        settle(&mut tree);
        let below = tree.get(format!("{root}/com.a.Demo/configurators").as_str());
        let told =
            below.unwrap_or_else(|| panic!("{root}")).children().next().unwrap().name().to_owned();
        let url = percent_decode_str(&told).decode_utf8().unwrap();
        assert!(url.starts_with("override://10.0.0.5:20880/com.a.Demo?"), "{url}");
        delete(&mut tree, &path_of(Kind::Overrides, "o"));
        settle(&mut tree);
        assert!(tree.get(&format!("{root}/com.a.Demo/configurators/{told}")).is_none());
    }
}

#[test]
fn what_people_wrote_among_the_configurators_is_left_alone() {
    let (mut tree, session) = with_session();
    put(&mut tree, session, &format!("{PROVIDERS}/{PROVIDER}"), "");
    let own = format!("{CONFIGURATORS}/override%3A%2F%2F0.0.0.0%2Fcom.a.Demo%3Ftimeout%3D5");
    put(&mut tree, SessionId::NONE, &own, "");
    set_override(&mut tree, "o", "/dubbo/**", r#""weight":5"#);
    settle(&mut tree);
    assert_eq!(configured(&tree).len(), 2);
    delete(&mut tree, &path_of(Kind::Overrides, "o"));
    settle(&mut tree);
    assert_eq!(configured(&tree), ["override://0.0.0.0/com.a.Demo?timeout=5"]);
}

fn value(tree: &Tree, at: &str, pointer: &str) -> Value {
    json_of(tree.get(at).unwrap()).unwrap().pointer(pointer).cloned().unwrap_or(Value::Null)
}

#[test]
fn an_instance_of_spring_cloud_shows_the_status_and_then_its_own_again_and_keeps_its_owner() {
    let (mut tree, session) = with_session();
    let at = "/services/app/i";
    put(&mut tree, session, at, SPRING);
    set_override(&mut tree, "o", "/services/app/*", r#""instance":"i","status":"out_of_service""#);
    settle(&mut tree);
    let status = "/payload/metadata/instance_status";
    assert_eq!(value(&tree, at, status), "OUT_OF_SERVICE");
    assert_eq!(tree.get(at).unwrap().ephemeral_owner(), Some(session));
    assert_eq!(value(&tree, at, "/payload/metadata/zone"), "a");

    // It registers again, and says itself that it is up.
    delete(&mut tree, at);
    settle(&mut tree);
    put(&mut tree, session, at, &SPRING.replace(r#""zone":"a""#, r#""instance_status":"UP""#));
    settle(&mut tree);
    assert_eq!(value(&tree, at, status), "OUT_OF_SERVICE");
    delete(&mut tree, &path_of(Kind::Overrides, "o"));
    settle(&mut tree);
    assert_eq!(value(&tree, at, status), "UP", "what it said itself");
    assert_eq!(tree.get(EFFECTS).unwrap().num_children(), 0);
}

#[test]
fn a_provider_of_roost_stands_as_the_most_special_override_says_and_then_as_it_says_itself() {
    let (mut tree, session) = with_session();
    let at = "/services/web/providers/a";
    put(&mut tree, session, at, r#"{"host":"10.0.0.5","port":80,"weight":70}"#);
    set_override(&mut tree, "all", "/services/**", r#""weight":0,"labels":{"a/b":"c"}"#);
    set_override(
        &mut tree,
        "web",
        "/services/web/providers/*",
        r#""weight":30,"status":"draining""#,
    );
    settle(&mut tree);
    let shown =
        |tree: &Tree| ["/weight", "/status", "/metadata/a~1b"].map(|it| value(tree, at, it));
    assert_eq!(shown(&tree), [json!(30), json!("draining"), json!("c")]);
    assert_eq!(tree.get(at).unwrap().ephemeral_owner(), Some(session));

    delete(&mut tree, &path_of(Kind::Overrides, "web"));
    settle(&mut tree);
    assert_eq!(shown(&tree), [json!(0), Value::Null, json!("c")]);
    // It replaces its data, as a registration that is repeated does.
    let again = Data::new(br#"{"host":"10.0.0.5","port":80,"weight":55}"#);
    apply(&mut tree, session, Op::SetOwn { path: path(at), data: Some(again) });
    settle(&mut tree);
    assert_eq!(value(&tree, at, "/weight"), 0);
    delete(&mut tree, &path_of(Kind::Overrides, "all"));
    settle(&mut tree);
    assert_eq!(shown(&tree), [json!(55), Value::Null, Value::Null]);
    assert_eq!(tree.get(EFFECTS).unwrap().num_children(), 0);
}
