//! What random faults find only by luck, as scripts.

use std::collections::BTreeMap;

use roost::node::Consistency;
use roost::types::{CreateMode, NodeId, Op, Reply, SessionId, Zxid};

use crate::clients::{create, done, set};
use crate::world::{Setup, World};

/// Starts a cluster of which every node has heard.
fn calm(seed: u64) -> World {
    let mut world = World::start(seed, Setup::default());
    world.pass(1_000);
    world
}

/// Returns the leader and two others.
fn cast(world: &World) -> (NodeId, NodeId, NodeId) {
    let leader = world.leader().expect("there is one");
    let others: Vec<NodeId> = world.ids().into_iter().filter(|id| *id != leader).collect();
    (leader, others[0], others[1])
}

fn set_cut(world: &World, one: NodeId, is_cut: bool) {
    for other in world.ids().into_iter().filter(|other| *other != one) {
        world.links.set_cut(one, other, is_cut);
        world.links.set_cut(other, one, is_cut);
    }
}

fn open_session(world: &mut World, through: NodeId, timeout_ms: u32) -> SessionId {
    let reply = world.run_on(through, |node| async move {
        let password = node.new_password();
        done(node, Op::OpenSession { timeout_ms, password, owner: None }).await
    });
    match reply {
        Reply::Session { session, .. } => session,
        other => panic!("{other:?}"),
    }
}

fn renew(world: &mut World, through: NodeId, session: SessionId) -> bool {
    let renewed = world.run_on(through, |node| async move { node.renew(session).await });
    renewed.expect("there is a leader")
}

#[test]
fn a_session_that_the_next_leader_renewed_outlives_what_the_last_one_had_decided_about_it() {
    let mut world = calm(24);
    let (old, through, _) = cast(&world);
    let session = open_session(&mut world, through, 1_000);
    assert!(renew(&mut world, through, session));
    // Its machine is suspended shortly before it would find the session silent.
    world.pass(850);
    world.pause(old);
    world.until("another one leads", |world| world.leader().is_some_and(|leader| leader != old));
    assert!(renew(&mut world, through, session));
    // It wakes, believes that no time has passed, and hears of nobody.
    set_cut(&world, old, true);
    world.resume(old, false);
    world.pass(300);
    assert!(renew(&mut world, through, session));
    set_cut(&world, old, false);
    for _ in 0..8 {
        world.pass(250);
        assert!(renew(&mut world, through, session), "it was renewed all the time");
    }
}

#[test]
fn a_node_that_has_voted_and_lost_its_power_does_not_vote_again_in_that_term() {
    let mut world = calm(3);
    let (old, _, _) = cast(&world);
    let term = world.node(old).expect("it runs").leadership().term;
    let mut leaders = BTreeMap::from([(term, old)]);
    world.crash(old, 0, true);
    world.until("another one leads", |world| world.leader().is_some());
    let (new, voter) = {
        let new = world.leader().expect("there is one");
        let voter = world.ids().into_iter().find(|id| *id != new && *id != old);
        (new, voter.expect("there are three"))
    };
    // Nobody hears that it leads, and who voted for it starts again beside the one that was not there.
    set_cut(&world, new, true);
    world.crash(voter, 0, true);
    world.boot(voter);
    world.boot(old);
    for _ in 0..4_000 {
        world.step();
        for node in world.ids().into_iter().filter_map(|id| world.node(id)) {
            let leadership = node.leadership();
            if leadership.leader == Some(node.id()) {
                let first = *leaders.entry(leadership.term).or_insert(node.id());
                assert_eq!(first, node.id(), "two lead in term {}", leadership.term);
            }
        }
    }
    assert!(leaders.len() >= 3, "the other two have found a leader: {leaders:?}");
}

#[test]
fn a_node_that_comes_back_from_a_partition_does_not_unseat_a_leader_that_works() {
    let mut world = calm(4);
    let (leader, lonely, _) = cast(&world);
    let term = world.node(leader).expect("it runs").leadership().term;
    set_cut(&world, lonely, true);
    world.pass(5_000);
    set_cut(&world, lonely, false);
    world.pass(3_000);
    for node in world.ids().into_iter().filter_map(|id| world.node(id)) {
        let leadership = node.leadership();
        assert_eq!((leadership.leader, leadership.term), (Some(leader), term));
    }
}

#[test]
fn a_wall_clock_that_jumps_ends_neither_a_session_nor_a_ttl() {
    let mut world = calm(5);
    let (leader, through, _) = cast(&world);
    let session = open_session(&mut world, through, 2_000);
    let ttl = create("/ttl", b"", CreateMode::Ttl(5_000));
    world.run_on(through, |node| done(node, ttl));
    for hours in [1, -2, 3] {
        world.jump_wall(leader, hours * 3_600_000);
        world.pass(700);
        assert!(renew(&mut world, through, session), "it was renewed all the time");
        let tree = world.node(leader).expect("it runs").local();
        assert!(tree.get("/ttl").is_some(), "its TTL is not over");
    }
    world.pass(6_000);
    let tree = world.node(leader).expect("it runs").local();
    assert!(tree.get("/ttl").is_none() && tree.session(session).is_none(), "now their time is up");
}

#[test]
fn a_ttl_ends_in_time_although_nobody_wrote_before_the_leader_changed() {
    let mut world = calm(7);
    let (old, through, _) = cast(&world);
    let ttl = create("/ttl", b"", CreateMode::Ttl(20_000));
    world.run_on(through, |node| done(node, ttl));
    world.pass(14_000);
    world.crash(old, 0, true);
    world.until("another one leads", |world| world.leader().is_some());
    world.pass(4_000);
    let present =
        |world: &World| world.node(through).expect("it runs").local().get("/ttl").is_some();
    assert!(present(&world), "its TTL is not over");
    // What the old leader had not written may come on top, and the time without a leader.
    world.pass(8_000);
    assert!(!present(&world), "now its time is up");
}

#[test]
fn a_leader_whose_clock_stood_still_while_another_one_was_elected_does_not_answer_from_the_past() {
    let mut world = calm(6);
    let (old, through, _) = cast(&world);
    world.run_on(through, |node| done(node, create("/x", b"old", CreateMode::Persistent)));
    world.pass(200);
    world.pause(old);
    world.until("another one leads", |world| world.leader().is_some_and(|leader| leader != old));
    world.run_on(through, |node| done(node, set("/x", b"new", None)));
    set_cut(&world, old, true);
    world.resume(old, false);
    let read = world.spawn_on(old, |node| async move {
        node.read(Consistency::Linearizable, Zxid(0)).await.map(|view| view.tree)
    });
    world.pass(150);
    set_cut(&world, old, false);
    world.until("the read is answered", |_| read.lock().is_some());
    let tree = read.lock().take().expect("it is there").expect("there is a leader");
    let data = tree.get("/x").and_then(|znode| znode.data().map(|data| data.to_vec()));
    assert_eq!(data.as_deref(), Some(&b"new"[..]));
}

#[test]
fn of_ten_renewals_three_are_lost_and_no_session_is() {
    let mut world = calm(7);
    let (_, through, _) = cast(&world);
    let sessions: Vec<SessionId> =
        (0..10).map(|_| open_session(&mut world, through, 3_000)).collect();
    // Three per timeout, each a little early, as their way takes time too; of three in a row one arrives.
    for beat in 0..60 {
        world.pass(900);
        for (at, session) in sessions.iter().enumerate() {
            let is_lost = matches!((beat + at) % 10, 0 | 1 | 5);
            assert!(is_lost || renew(&mut world, through, *session), "{session} at beat {beat}");
        }
    }
    // Three in a row are too many.
    world.pass(4_000);
    let tree = world.node(through).expect("it runs").local();
    assert_eq!(tree.session_count(), 0);
}
