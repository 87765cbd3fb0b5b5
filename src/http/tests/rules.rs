//! Rules of Dubbo, overrides of its providers among them: whoever follows an interface has what the view shows.

use serde_json::{Value, json};

use super::increments::{Copy, open, sign_of};
use super::layouts::write;
use super::{Bed, event, pass_until, settled};

const PAY: &str = "/dubbo/pay";

fn provider(host: &str) -> String {
    format!("{PAY}/providers/dubbo%3A%2F%2F{host}%3A20880%2Fpay%3Fweight%3D7%26side%3Dprovider")
}

/// Two providers, and a session that has them.
async fn two() -> (Bed, String) {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    for host in ["10.0.0.5", "10.0.0.6"] {
        write(&bed, &token, &provider(host), "").await;
    }
    (bed, token)
}

/// Returns host, weight and status of each.
fn shown(list: &Value) -> Vec<(String, u64, String)> {
    let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    let one =
        |one: &Value| (text(one, "host"), one["weight"].as_u64().unwrap(), text(one, "status"));
    list.as_array().unwrap_or_else(|| panic!("{list}")).iter().map(one).collect()
}

fn stands(host: &str, weight: u64, status: &str) -> (String, u64, String) {
    (host.to_owned(), weight, status.to_owned())
}

async fn view(bed: &Bed) -> Vec<(String, u64, String)> {
    shown(&bed.get("/v1/services/pay").await.json()["providers"])
}

#[tokio::test]
async fn who_follows_an_interface_by_whatever_means_has_what_its_rules_make_of_it() {
    let (bed, token) = two().await;
    let (mut stream, mut buffer) = open(&bed, json!([{"name": "pay"}])).await;
    let mut copy = Copy::default();
    copy.take(&event(&mut stream, &mut buffer).await.2);
    let since = bed.get("/v1/version").await.json()["zxid"].as_u64().unwrap();
    let before = sign_of(&bed, "pay").await;
    let five = |weight, status| [stands("10.0.0.5", weight, status)];

    let rule = format!("{PAY}/configurators/override%3A%2F%2F10.0.0.5%2Fpay%3Fweight%3D0");
    write(&bed, &token, &rule, "").await;
    let now = [stands("10.0.0.5", 0, "up"), stands("10.0.0.6", 7, "up")];
    assert_eq!(view(&bed).await, now);
    let delta = bed.get(&format!("/v1/services/pay?since={since}")).await.json();
    assert_eq!((&delta["full"], shown(&delta["upsert"])), (&json!(false), five(0, "up").to_vec()));
    assert!(delta["revision"].as_u64() > Some(since), "{delta}");
    let (kind, _, told) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), shown(&told["upsert"])), ("delta", five(0, "up").to_vec()));
    copy.take(&told);
    let after = sign_of(&bed, "pay").await;
    assert_ne!(before, after);
    assert_eq!((&copy.sign(), delta["sign"].as_str()), (&after, Some(after.as_str())));
    let (mut anew, mut rest) = open(&bed, json!([{"name": "pay"}])).await;
    assert_eq!(shown(&event(&mut anew, &mut rest).await.2["upsert"]), now);

    // Of a rule that says nothing of what is shown nobody hears; who registers is governed from the start.
    let calm = format!("{PAY}/configurators/override%3A%2F%2F10.0.0.6%2Fpay%3Fenabled%3Dfalse");
    write(&bed, &token, &calm, "").await;
    let all = format!("{PAY}/configurators/override%3A%2F%2F0.0.0.0%2Fpay%3Fdisabled%3Dtrue");
    write(&bed, &token, &all, "").await;
    let (_, _, told) = event(&mut stream, &mut buffer).await;
    let out = [stands("10.0.0.5", 0, "out_of_service"), stands("10.0.0.6", 7, "out_of_service")];
    assert_eq!(shown(&told["upsert"]), out);
    copy.take(&told);
    write(&bed, &token, &provider("10.0.0.7"), "").await;
    let (_, _, told) = event(&mut stream, &mut buffer).await;
    assert_eq!(shown(&told["upsert"]), [stands("10.0.0.7", 7, "out_of_service")]);
    copy.take(&told);

    for path in [&all, &rule] {
        let uri = format!("DELETE /v1/znodes{}", path.replace('%', "%25"));
        assert_eq!(bed.send(&uri, &[("roost-session", &token)], "").await.status, 200);
        copy.take(&event(&mut stream, &mut buffer).await.2);
    }
    let since = format!("/v1/services/pay?since={}", delta["to"]);
    let back = shown(&bed.get(&since).await.json()["upsert"]);
    let own = ["10.0.0.5", "10.0.0.6", "10.0.0.7"].map(|host| stands(host, 7, "up"));
    assert_eq!((back.as_slice(), view(&bed).await.as_slice()), (&own[..], &own[..]));
    assert_eq!(copy.sign(), sign_of(&bed, "pay").await);
}

#[tokio::test]
async fn an_override_of_a_dubbo_provider_outdoes_what_people_wrote_and_shows_what_it_hides() {
    let (bed, token) = two().await;
    for weight in [200, 5] {
        let rule = format!("override%3A%2F%2F10.0.0.5%3A20880%2Fpay%3Fweight%3D{weight}");
        write(&bed, &token, &format!("{PAY}/configurators/{rule}"), "").await;
    }
    let policy = json!({"reason": "it burns", "pattern": "/dubbo/pay/providers/*", "ip": "10.0.0.5",
        "weight": 0, "status": "draining", "labels": {"zone": "b"}});
    let set = bed.send("PUT /v1/policies/overrides/o", &[], policy.to_string()).await;
    assert_eq!(set.status, 200, "{}", set.json());
    let is_done =
        || bed.node.local().get("/roost/effects").is_some_and(|all| all.num_children() == 1);
    pass_until(&bed.node, "the override has its effect", is_done).await;
    let [five, six] = [stands("10.0.0.5", 0, "draining"), stands("10.0.0.6", 7, "up")];
    assert_eq!(view(&bed).await, [five, six]);
    let one = bed.get("/v1/services/pay").await.json()["providers"][0].clone();
    assert_eq!(one["metadata"]["zone"], "b");
    let before = json!({"/weight": 7, "/status": "up", "/metadata/zone": null});
    assert_eq!(one["declared"], before);
    let effect = bed.get("/v1/overrides?below=/dubbo").await.json()["effects"][0].clone();
    assert_eq!((&effect["before"], &effect["made_by"]), (&before, &json!(["o"])), "{effect}");
    let after = json!({"/weight": 0, "/status": "draining", "/metadata/zone": "b"});
    assert_eq!(effect["after"], after);
    // While the provider is away there is nobody to say anything.
    let uri = format!("DELETE /v1/znodes{}", provider("10.0.0.5").replace('%', "%25"));
    assert_eq!(bed.send(&uri, &[("roost-session", &token)], "").await.status, 200);
    let effect = bed.get("/v1/overrides?below=/dubbo").await.json()["effects"][0].clone();
    assert_eq!((&effect["before"], &effect["after"]), (&json!({}), &json!({})));
}

#[tokio::test]
async fn a_drain_of_a_dubbo_provider_counts_who_follows_its_interface() {
    let (bed, _) = two().await;
    let (mut stream, mut buffer) = open(&bed, json!([{"name": "pay"}])).await;
    event(&mut stream, &mut buffer).await;
    let other = open(&bed, json!([{"name": "other"}])).await;
    settled(&bed.node).await;
    let asked = |wait: &str| {
        let path = provider("10.0.0.5");
        json!({"instance": path, "deadline_ms": 600_000, "wait": "none", "reason": wait})
            .to_string()
    };
    let drained = bed.post("/v1/drain", asked("first")).await.json();
    assert_eq!((&drained["notified"], &drained["lagging"]), (&json!(0), &json!(1)), "{drained}");
    let (_, _, told) = event(&mut stream, &mut buffer).await;
    assert_eq!(shown(&told["upsert"]), [stands("10.0.0.5", 0, "draining")]);
    let again = bed.post("/v1/drain", asked("again")).await.json();
    assert_eq!((&again["notified"], &again["lagging"]), (&json!(1), &json!(0)), "{again}");
    drop(other);
}

#[tokio::test]
async fn rules_of_dubbo_below_a_root_of_ones_own_count_as_dubbos_do_and_for_that_root_alone() {
    let (bed, token) = two().await;
    let layout = json!({"reason": "another group", "pattern": "/rpc/{service}/providers/{id}", "read": "url_name"});
    let set = bed.send("PUT /v1/policies/layout/rpc", &[], layout.to_string()).await;
    assert!(set.status < 300, "{}", set.json());
    for root in ["/rpc", "/ns/red/rpc"] {
        let at = format!("{root}/pay/providers/dubbo%3A%2F%2F10.0.0.5%3A1%2Fpay%3Fweight%3D9");
        write(&bed, &token, &at, "").await;
        let namespace = if root == "/rpc" { "" } else { "red" };
        let uri = format!("/v1/services/pay?namespace={namespace}&layout=rpc");
        let since = bed.get("/v1/version").await.json()["zxid"].as_u64().unwrap();
        let asked = json!({"instance": at, "wait": "none"}).to_string();
        assert_eq!(bed.post("/v1/drain", asked).await.status, 200, "{root}");
        let all = bed.get(&uri).await.json();
        assert_eq!(shown(&all["providers"]), [stands("10.0.0.5", 0, "draining")], "{all}");
        let delta = bed.get(&format!("{uri}&since={since}")).await.json();
        assert_eq!(shown(&delta["upsert"]), [stands("10.0.0.5", 0, "draining")], "{delta}");
    }
    // One that means every provider of the interface.
    write(&bed, &token, "/rpc/pay/configurators/override%3A%2F%2F0.0.0.0%2Fpay%3Fweight%3D3", "")
        .await;
    let dubbos = bed.get("/v1/services/pay?layout=dubbo").await.json();
    let own = [stands("10.0.0.5", 7, "up"), stands("10.0.0.6", 7, "up")];
    assert_eq!(shown(&dubbos["providers"]), own);
}
