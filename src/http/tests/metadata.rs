//! What instances have in common is kept once for each revision: a thousand instances of a hundred interfaces that register by
//! application take about as much as one of them says, and not a thousand times that.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Bed;
use super::scale::{create, open};
use crate::node::Node;
use crate::tree::Tree;
use crate::types::{Data, SessionId};

const INSTANCES: usize = 1_000;
const INTERFACES: usize = 100;
const REVISION: &str = "8f3b1c";
const METHODS: &str =
    "create,cancel,refund,capture,authorize,findById,findByCustomer,listOpen,reconcile";

fn interface(n: usize) -> String {
    format!("com.example.payment.api.PaymentService{n:03}")
}

fn host(n: usize) -> String {
    format!("10.1.{}.{}", n / 250, n % 250)
}

/// What an application of Dubbo says of all its interfaces.
fn metadata(revision: &str) -> String {
    let one = |n: usize| {
        let params =
            json!({"methods": METHODS, "timeout": "3000", "retries": "2", "side": "provider"});
        let about = json!({"name": interface(n), "protocol": "dubbo", "params": params});
        (interface(n), about)
    };
    let services: serde_json::Map<_, _> = (0..INTERFACES).map(one).collect();
    json!({"app": "pay", "revision": revision, "services": services}).to_string()
}

/// Each instance registers each interface, with all that there is to say of it.
fn by_interface() -> Tree {
    let mut tree = Tree::new();
    let sessions: Vec<SessionId> = (0..INSTANCES).map(|_| open(&mut tree)).collect();
    for interface in (0..INTERFACES).map(interface) {
        for (n, session) in sessions.iter().enumerate() {
            let url = format!(
                "dubbo%3A%2F%2F{}%3A20880%2F{interface}%3Fapplication%3Dpay%26interface%3D{interface}%26methods%3D{}%26\
                 timeout%3D3000%26retries%3D2%26side%3Dprovider",
                host(n),
                METHODS.replace(',', "%2C"),
            );
            create(&mut tree, *session, &format!("/dubbo/{interface}/providers/{url}"), "");
        }
    }
    tree
}

/// Each instance registers itself, says which revision it is of, and that is written down once. Returns also how many bytes
/// the instances take by themselves, with their paths.
fn by_application() -> (Tree, usize) {
    let (mut tree, mut own) = (Tree::new(), 0);
    let sessions: Vec<SessionId> = (0..INSTANCES).map(|_| open(&mut tree)).collect();
    let at = format!("/dubbo/metadata/pay/{REVISION}");
    create(&mut tree, SessionId::NONE, &at, &metadata(REVISION));
    for interface in (0..INTERFACES).map(interface) {
        create(&mut tree, SessionId::NONE, &format!("/dubbo/mapping/{interface}"), "pay");
    }
    for (n, session) in sessions.iter().enumerate() {
        let payload = json!({"metadata": {"dubbo.metadata.revision": REVISION}});
        let says = json!({"address": host(n), "port": 20880, "payload": payload}).to_string();
        let path = format!("/services/pay/{}:20880", host(n));
        own += path.len() + says.len();
        create(&mut tree, *session, &path, &says);
    }
    (tree, own)
}

/// Returns the bytes of what is in a tree beyond what is always there.
fn bytes(tree: &Tree) -> usize {
    (tree.data_bytes() - Tree::new().data_bytes()) as usize
}

/// Checks that a state is no more than one copy of the metadata and what the instances say by themselves, and three tenths.
fn is_kept_once(taken: usize, copy: usize, own: usize) {
    assert!(taken >= copy + own, "{taken} bytes are less than {copy} and {own}");
    assert!(10 * taken <= 13 * (copy + own), "{taken} bytes for {copy} of metadata and {own}");
}

#[test]
fn to_register_by_application_takes_one_copy_of_the_metadata_and_by_interface_all_of_them() {
    let ((by_application, own), copy) = (by_application(), metadata(REVISION).len());
    let by_interface = bytes(&by_interface());
    is_kept_once(bytes(&by_application), copy, own);
    assert!(by_interface >= INSTANCES * copy / 2, "{by_interface} bytes by interface");
    assert!(by_interface > 100 * bytes(&by_application), "{by_interface} bytes by interface");
}

#[tokio::test]
async fn every_interface_of_an_application_leads_to_the_one_copy_of_its_metadata() {
    let bed = Bed::over(Node::holding(by_application().0).await);
    for service in [interface(0), interface(INTERFACES - 1), "pay".to_owned()] {
        let view = bed.get(&format!("/v1/services/{service}")).await.json();
        let providers = view["providers"].as_array().unwrap();
        assert_eq!(providers.len(), INSTANCES, "{service}");
        let revisions: BTreeSet<_> =
            providers.iter().map(|one| one["metadata_revision"].as_str().unwrap()).collect();
        assert_eq!(revisions, BTreeSet::from([REVISION]));
    }
    let got = bed.get(&format!("/v1/services/pay/metadata/{REVISION}")).await.json();
    assert_eq!(got["path"], format!("/dubbo/metadata/pay/{REVISION}"));
    assert_eq!(got["data"], metadata(REVISION));
}

#[tokio::test]
async fn a_revision_that_is_kept_through_the_door_is_kept_once_however_many_say_it() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let auth = [("roost-session", token.as_str())];
    let before = bed.node.local().data_bytes();
    let taken = || (bed.node.local().data_bytes() - before) as usize;
    let put = async |revision: &str| {
        let uri = format!("PUT /v1/services/pay/metadata/{revision}");
        bed.send(&uri, &[], metadata(revision)).await.status
    };
    let register = async |revision: &str| {
        let provider = |n: usize| {
            let host = host(n);
            json!({"service": "pay", "host": host, "port": 80, "metadata_revision": revision})
        };
        let all: Vec<Value> = (0..INSTANCES).map(provider).collect();
        let body = json!({ "providers": all }).to_string();
        assert_eq!(bed.send("POST /v1/register", &auth, body).await.status, 200);
    };
    assert_eq!(put("r1").await, 201);
    register("r1").await;
    let tree = bed.node.local();
    let instances = tree.descendants("/services/pay/providers");
    let bytes = |data: &Data| data.len();
    let own =
        instances.map(|(path, znode)| path.as_str().len() + znode.data().map_or(0, bytes)).sum();
    is_kept_once(taken(), metadata("r1").len(), own);

    // Every instance may say it at its start; the next release says another one, once.
    let one = taken();
    for _ in 0..10 {
        assert_eq!(put("r1").await, 200);
    }
    assert_eq!(taken(), one);
    assert_eq!(put("r2").await, 201);
    register("r2").await;
    let path = "/services/pay/metadata/r2".len();
    assert_eq!(taken(), one + metadata("r2").len() + path);
    for revision in ["r1", "r2"] {
        let got = bed.get(&format!("/v1/services/pay/metadata/{revision}")).await.json();
        assert_eq!(got["data"], metadata(revision));
    }
    let view = bed.get("/v1/services/pay").await.json();
    let providers = view["providers"].as_array().unwrap();
    assert!(providers.iter().all(|one| one["metadata_revision"] == "r2"), "{}", providers[0]);
}
