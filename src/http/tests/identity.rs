//! Whose an address is when two registrations claim it.

use serde_json::{Value, json};

use super::Bed;

async fn register(bed: &Bed, token: &str, id: &str, host: &str) -> Value {
    let got = bed.register(token, "web", json!({"id": id, "host": host, "port": 80})).await;
    assert_eq!(got.status, 201, "{}", got.json());
    got.json()
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn of_two_processes_at_one_address_only_the_newer_one_is_listed() {
    let bed = Bed::new().await;
    let ((old, first), (_, second)) = (bed.session().await, bed.session().await);
    let before = register(&bed, &first, "pod-1", "10.0.0.5").await;
    register(&bed, &first, "pod-9", "10.0.0.9").await;
    let after = register(&bed, &second, "pod-2", "10.0.0.5").await;
    assert!(after["incarnation"].as_u64() > before["incarnation"].as_u64());

    let web = bed.get("/v1/services/web").await.json();
    assert_eq!(ids(&web["providers"]), ["pod-2", "pod-9"]);
    assert_eq!(web["providers"][0]["incarnation"], after["incarnation"]);
    let conflict = &web["conflicts"][0];
    assert_eq!(conflict["path"], "/services/web/providers/pod-1");
    assert_eq!(conflict["winner"], "/services/web/providers/pod-2");
    assert_eq!((&conflict["session"], &conflict["host"]), (&json!(old), &json!("10.0.0.5")));
    let all = bed.get("/v1/conflicts").await.json();
    assert_eq!(
        (&all["conflicts"][0]["service"], &all["conflicts"][0]["path"]),
        (&json!("web"), &conflict["path"])
    );
    let of = async |query: &str| bed.get(&format!("/v1/conflicts?{query}")).await.json();
    assert_eq!(of("service=web").await["conflicts"], all["conflicts"]);
    assert_eq!(of("service=we").await["conflicts"], json!([]));
    assert_eq!(of("namespace=red").await["conflicts"], json!([]));

    let targets = bed.get("/v1/sd/prometheus?service=web").await.json();
    assert_eq!(targets.as_array().unwrap().len(), 2, "the loser is not scraped");
    let block = String::from_utf8(bed.get("/v1/sd/nginx?upstream=web").await.body).unwrap();
    assert_eq!(block.matches("10.0.0.5:80").count(), 1, "{block}");

    // The winner leaves, and the other one, which is alive, has its address again.
    let leave = "DELETE /v1/services/web/providers/pod-2";
    bed.send(leave, &[("roost-session", &second)], "").await;
    let web = bed.get("/v1/services/web").await.json();
    assert_eq!((ids(&web["providers"]), &web["conflicts"]), (vec!["pod-1", "pod-9"], &json!([])));
}

#[tokio::test]
async fn what_one_process_registers_twice_and_what_differs_in_release_are_no_rivals() {
    let bed = Bed::new().await;
    let ((_, first), (_, second)) = (bed.session().await, bed.session().await);
    register(&bed, &first, "a", "10.0.0.5").await;
    register(&bed, &first, "b", "10.0.0.5").await;
    for (token, release) in [(&first, "1.0"), (&second, "2.0")] {
        let name = format!("tri%253A%252F%252F10.0.0.7%253A1%252Fpay%253Fversion%253D{release}");
        let uri = format!("POST /v1/znodes/dubbo/pay/providers/{name}?mode=ephemeral&parents=true");
        assert_eq!(bed.send(&uri, &[("roost-session", token)], "").await.status, 201);
    }
    for (service, count) in [("web", 2), ("pay", 2)] {
        let shown = bed.get(&format!("/v1/services/{service}")).await.json();
        assert_eq!(shown["providers"].as_array().unwrap().len(), count, "{shown}");
        assert_eq!(shown["conflicts"], json!([]));
    }
}
