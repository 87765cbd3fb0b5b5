//! The words of a door in ZooKeeper's protocol.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use roost::client::model::Registration;
use roost::jute::{PathVersion, PathWatch, Request, Response, WriteOp};

use super::connection::Connection;
use super::{SEQUENTIAL, ZkDoor, create, follow, look, text, unexpected};
use crate::check::set::Added;
use crate::door::{
    Door, Providers, Reply, Session, State, Subscription, Trouble, name, providers_path,
};
use crate::history::kv::{KvAnswer, KvCall, Refusal};

impl Door for ZkDoor {
    fn node(&self) -> u8 {
        self.node
    }

    fn ensure<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Reply<()>> {
        self.make_parents(path).boxed()
    }

    fn kv<'a>(&'a self, call: &'a KvCall, seen_zxid: u64) -> BoxFuture<'a, Reply<KvAnswer>> {
        self.carry_out(call, seen_zxid).boxed()
    }

    fn open(&self, timeout_ms: u64) -> BoxFuture<'_, Reply<Session>> {
        async move {
            let opened = Connection::open(&self.addr, self.patience, Err(timeout_ms), 0).await?;
            let session = opened.0.session().clone();
            let mut connections = self.connections.lock().await;
            connections.attached.insert(session.id.clone(), Arc::new(opened.0));
            Ok(session)
        }
        .boxed()
    }

    fn renew<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Reply<bool>> {
        async move {
            let (connection, is_new) = self.attached(session).await?;
            if !is_new {
                // A ping has no effect but to keep the session.
                connection.ask(&Request::Ping, true).await?;
            }
            Ok(is_new)
        }
        .boxed()
    }

    fn only_pings<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, bool> {
        async move {
            let connections = self.connections.lock().await;
            connections.attached.get(&session.id).is_some_and(|there| there.is_open())
        }
        .boxed()
    }

    fn close<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Reply<()>> {
        async move {
            let (connection, _) = self.attached(session).await?;
            connection.ask(&Request::CloseSession, true).await?;
            self.connections.lock().await.attached.remove(&session.id);
            Ok(())
        }
        .boxed()
    }

    fn hold<'a>(&'a self, session: &'a Session, path: &'a str) -> BoxFuture<'a, Reply<u64>> {
        self.create_ephemeral(session, path, text(1)).boxed()
    }

    fn release<'a>(&'a self, session: &'a Session, path: &'a str) -> BoxFuture<'a, Reply<u64>> {
        async move {
            let (connection, _) = self.attached(session).await?;
            let delete = WriteOp::Delete(PathVersion { path: path.to_owned(), version: -1 });
            Ok(connection.ask(&Request::Write(delete), true).await?.0)
        }
        .boxed()
    }

    fn add<'a>(&'a self, parent: &'a str, value: u64) -> BoxFuture<'a, Reply<Added>> {
        async move {
            let create = create(&format!("{parent}/e-"), text(value), SEQUENTIAL);
            match self.write(WriteOp::Create(create)).await? {
                (zxid, Response::Path(path)) => Ok(Added { name: name(&path).to_owned(), zxid }),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn children<'a>(&'a self, parent: &'a str, is_stale: bool) -> BoxFuture<'a, Reply<State>> {
        async move {
            let own = self.own(0).await?;
            if !is_stale {
                own.ask(&Request::Sync(parent.to_owned()), false).await?;
            }
            look(&own, parent).await
        }
        .boxed()
    }

    fn watch(&self, parent: &str, _: Option<u64>) -> Subscription {
        let (addr, parent, patience) = (self.addr.clone(), parent.to_owned(), self.patience);
        Subscription::start(move |sender| follow(addr, patience, parent, sender))
    }

    fn register<'a>(
        &'a self,
        session: &'a Session,
        service: &'a str,
        provider: &'a Registration,
    ) -> BoxFuture<'a, Reply<()>> {
        async move {
            let parent = providers_path(service);
            let path = format!("{parent}/{}", provider.id.as_deref().unwrap_or_default());
            let data =
                serde_json::to_vec(provider).map_err(|err| Trouble::Failed(err.to_string()))?;
            let mut made = self.create_ephemeral(session, &path, data.clone()).await;
            if made == Err(Trouble::Refused(Refusal::NoNode)) {
                self.make_parents(&parent).await?;
                made = self.create_ephemeral(session, &path, data).await;
            }
            if made != Err(Trouble::Refused(Refusal::NodeExists)) {
                return made.map(|_| ());
            }
            // Registering again with the same session is no mistake.
            let (connection, _) = self.attached(session).await?;
            let exists = Request::Exists(PathWatch { path, watch: false });
            match connection.ask(&exists, false).await? {
                (_, Response::Stat(stat)) if stat.ephemeral_owner.to_string() == session.id => {
                    Ok(())
                }
                _ => Err(Trouble::Refused(Refusal::NodeExists)),
            }
        }
        .boxed()
    }

    fn deregister<'a>(
        &'a self,
        session: Option<&'a Session>,
        service: &'a str,
        id: &'a str,
    ) -> BoxFuture<'a, Reply<()>> {
        async move {
            let path = format!("{}/{id}", providers_path(service));
            let delete = WriteOp::Delete(PathVersion { path, version: -1 });
            match session {
                Some(session) => {
                    let (connection, _) = self.attached(session).await?;
                    connection.ask(&Request::Write(delete), true).await.map(|_| ())
                }
                None => self.write(delete).await.map(|_| ()),
            }
        }
        .boxed()
    }

    fn providers<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Reply<Providers>> {
        async move { Ok(look(&*self.own(0).await?, &providers_path(service)).await?.into()) }
            .boxed()
    }
}
