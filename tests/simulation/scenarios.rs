//! What random faults find only by luck, as scripts.

use roost::types::{NodeId, Op, Reply, SessionId};

use crate::clients::done;
use crate::world::{Setup, World};

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
    let mut world = World::start(24, Setup::default());
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
