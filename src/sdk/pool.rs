use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::accrual::AccrualOptions;
use super::balancer::Balancer;
use super::instance::Instance;
use super::lookup::LookupError;
use super::subscription::{Providers, Subscription};
use crate::client::{Error, Probe};
use crate::limits::PROBES_AT_ONCE_MAX;

/// How a pool tells who works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// When an instance counts as failing, and how often it is probed then.
    pub accrual: AccrualOptions,
    /// How long a probe, which is a TCP connection, may take.
    pub probe_timeout: Duration,
}

impl Default for PoolOptions {
    /// Returns 3 failures, a probe each 5 s, 1 s.
    fn default() -> PoolOptions {
        PoolOptions { accrual: AccrualOptions::default(), probe_timeout: Duration::from_secs(1) }
    }
}

/// Where a pool has its list from.
#[derive(Debug)]
enum Source {
    Registry(Subscription),
    /// Fixed at the start.
    Fixed(Arc<Providers>),
}

/// The instances of one service, to be called: picks by weight, takes those out whose calls fail, and probes these until
/// they answer. A clone is the same pool.
#[derive(Clone, Debug)]
pub struct ServicePool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    service: String,
    source: Source,
    options: PoolOptions,
    began: Instant,
    state: Mutex<State>,
    /// Wakes the task that probes.
    failed: Arc<Notify>,
    probing: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
struct State {
    /// Of the list in the balancer.
    revision: u64,
    balancer: Balancer,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.probing.lock().iter().for_each(AbortHandle::abort);
    }
}

/// An instance that was picked; say how the call ended. Dropping it says nothing.
#[derive(Clone, Debug)]
pub struct Picked {
    /// Whom to call.
    pub instance: Arc<Instance>,
    inner: Arc<Inner>,
}

impl Picked {
    /// Returns `host:port`.
    pub fn addr(&self) -> String {
        self.instance.addr()
    }

    /// Notes that the call succeeded: the instance works.
    pub fn succeeded(&self) {
        self.inner.report(&self.instance, true);
    }

    /// Notes that the call failed for a reason that lies with the instance: it cannot be reached, or does not answer.
    pub fn failed(&self) {
        self.inner.report(&self.instance, false);
    }
}

/// Why [`call`](ServicePool::call) gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError<E> {
    /// There is nobody to call.
    Nobody(LookupError),
    /// All attempts failed; the last one so.
    Failed(E),
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Nobody(why) => why.fmt(f),
            CallError::Failed(why) => write!(f, "all attempts failed, the last one so: {why}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for CallError<E> {}

impl ServicePool {
    /// Returns the pool of a service that the subscription follows, from now on if not before. Must be called within a
    /// runtime.
    pub fn new(subscription: &Subscription, service: &str, options: PoolOptions) -> ServicePool {
        subscription.want(service);
        ServicePool::of(service, Source::Registry(subscription.clone()), options)
    }

    /// Returns a pool of fixed targets, `static://host:port` or several of them with commas, which asks no registry: for
    /// debugging one instance, or where there is no registry. Must be called within a runtime. Error: not of this form.
    pub fn fixed(targets: &str, options: PoolOptions) -> Result<ServicePool, Error> {
        let instances = parse_fixed(targets)?;
        let providers = Providers { instances, revision: 1, ..Providers::default() };
        Ok(ServicePool::of(targets, Source::Fixed(Arc::new(providers)), options))
    }

    fn of(service: &str, source: Source, options: PoolOptions) -> ServicePool {
        let failed = Arc::new(Notify::new());
        let inner = Arc::new(Inner {
            service: service.to_owned(),
            source,
            options,
            began: Instant::now(),
            state: Mutex::new(State { revision: 0, balancer: Balancer::new(options.accrual) }),
            failed: failed.clone(),
            probing: Mutex::new(None),
        });
        let task = tokio::spawn(probe_failing(Arc::downgrade(&inner), failed));
        *inner.probing.lock() = Some(task.abort_handle());
        ServicePool { inner }
    }

    /// Returns the next instance by weighted round robin. Errors: nothing is known of the service, nobody is there, or
    /// nobody wants traffic.
    pub fn pick(&self) -> Result<Picked, LookupError> {
        self.pick_except(&[])
    }

    /// As [`pick`](ServicePool::pick), but none of these addresses while there is another.
    pub fn pick_except(&self, tried: &[String]) -> Result<Picked, LookupError> {
        self.inner
            .with_balancer(|balancer| balancer.pick_except(tried))
            .and_then(|picked| self.picked(picked))
    }

    /// As [`pick`](ServicePool::pick), but at random by weight: for many consumers that call rarely, whose rounds would
    /// otherwise all begin at the same instance.
    pub fn pick_random(&self) -> Result<Picked, LookupError> {
        let random = rand::random();
        self.inner
            .with_balancer(|balancer| balancer.pick_random(random))
            .and_then(|picked| self.picked(picked))
    }

    fn picked(&self, instance: Option<Arc<Instance>>) -> Result<Picked, LookupError> {
        let service = self.inner.service.clone();
        let instance = instance.ok_or(LookupError::NoneWanted { service })?;
        Ok(Picked { instance, inner: self.inner.clone() })
    }

    /// Calls one instance after the other, up to so many (at least one) and each once while there are others, until a call
    /// succeeds. An error of `call` counts against the instance; what the instance refuses for reasons of the caller should
    /// be an `Ok`. Only for calls that may be made twice.
    pub async fn call<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        attempts: usize,
        mut call: impl FnMut(Picked) -> F,
    ) -> Result<T, CallError<E>> {
        let mut tried = Vec::new();
        loop {
            let picked = self.pick_except(&tried).map_err(CallError::Nobody)?;
            tried.push(picked.addr());
            match call(picked.clone()).await {
                Ok(answer) => {
                    picked.succeeded();
                    return Ok(answer);
                }
                Err(error) => {
                    picked.failed();
                    if tried.len() >= attempts.max(1) {
                        return Err(CallError::Failed(error));
                    }
                }
            }
        }
    }

    /// Returns the addresses that are out of the choice because calls to them failed.
    pub fn unavailable(&self) -> Vec<String> {
        self.inner.state.lock().balancer.unavailable()
    }
}

impl Inner {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Brings the balancer up to date with the list and asks it something.
    fn with_balancer<T>(&self, ask: impl FnOnce(&mut Balancer) -> T) -> Result<T, LookupError> {
        let found = match &self.source {
            Source::Registry(subscription) => subscription.providers(&self.service),
            Source::Fixed(providers) => Ok(providers.clone()),
        };
        let mut state = self.state.lock();
        match found {
            // Another thread may have brought a newer one in between.
            Ok(providers) if providers.revision > state.revision => {
                state.revision = providers.revision;
                state.balancer.update(&providers.instances);
            }
            Ok(_) => {}
            Err(error) => {
                // Whatever list there is next is taken, be it one that came in between.
                state.revision = 0;
                state.balancer.update(&[]);
                return Err(error);
            }
        }
        Ok(ask(&mut state.balancer))
    }

    fn report(&self, called: &Instance, is_ok: bool) {
        let now_ms = self.now_ms();
        if self.state.lock().balancer.report(called, is_ok, now_ms) && !is_ok {
            self.failed.notify_one();
        }
    }
}

/// Probes whoever is out of the choice until they answer. Ends with the pool: between the rounds it holds no handle of it.
async fn probe_failing(inner: Weak<Inner>, failed: Arc<Notify>) {
    loop {
        let next = {
            let Some(pool) = inner.upgrade() else { return };
            let now_ms = pool.now_ms();
            // Of the list as it is: whoever has gone is not looked after, also when nobody picks.
            let due = pool.with_balancer(|balancer| balancer.due(now_ms)).unwrap_or_default();
            probe_all(&pool, due).await;
            let next_ms = pool.state.lock().balancer.next_probe_ms();
            next_ms.map(|at_ms| pool.began + Duration::from_millis(at_ms))
        };
        match next {
            Some(moment) => tokio::select! {
                () = failed.notified() => {}
                () = sleep_until(moment) => {}
            },
            None => failed.notified().await,
        }
    }
}

async fn probe_all(pool: &Arc<Inner>, due: Vec<Arc<Instance>>) {
    let mut probes = JoinSet::new();
    for instance in due {
        if probes.len() >= PROBES_AT_ONCE_MAX {
            probes.join_next().await;
        }
        let pool = pool.clone();
        probes.spawn(async move {
            let probe = Probe::Tcp { addr: instance.addr() };
            if let Ok(Ok(())) = timeout(pool.options.probe_timeout, probe.run()).await {
                pool.report(&instance, true);
            }
        });
    }
    while probes.join_next().await.is_some() {}
}

fn parse_fixed(targets: &str) -> Result<Vec<Arc<Instance>>, Error> {
    let bad = || Error::Invalid(format!("{targets:?} is not static://host:port[,host:port…]"));
    let list = targets.strip_prefix("static://").ok_or_else(bad)?;
    let one = |target: &str| {
        let (host, port) = target.rsplit_once(':').ok_or_else(bad)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().map_err(|_| bad())?;
        if host.is_empty() || port == 0 {
            return Err(bad());
        }
        Ok(Arc::new(Instance::fixed(host, port)))
    };
    list.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::parse_fixed;

    #[test]
    fn fixed_targets_are_hosts_and_ports() {
        let all = parse_fixed("static://10.0.0.1:80,[::1]:81,db:82").unwrap();
        let addrs: Vec<String> = all.iter().map(|instance| instance.addr()).collect();
        assert_eq!(addrs, ["10.0.0.1:80", "[::1]:81", "db:82"]);
        for bad in [
            "10.0.0.1:80",
            "static://",
            "static://a",
            "static://a:0",
            "static://:1",
            "static://a:1,",
        ] {
            assert!(parse_fixed(bad).is_err(), "{bad}");
        }
    }
}
