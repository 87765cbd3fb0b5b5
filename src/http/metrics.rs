//! Counters of the door, cheap enough for every request: fixed arrays of atomics, one set per route, found
//! without a look at the labels. Only a scrape turns them into text.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Upper bound of the fastest bucket, µs; each further one is twice as wide.
const FIRST_BUCKET_US: u64 = 128;
/// Buckets with an upper bound, so up to about 4 s; one more without follows.
const BUCKETS: usize = 16;
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// All counters of the door.
#[derive(Default)]
pub(crate) struct Meters {
    under_way: Arc<AtomicUsize>,
    /// Filled while the routes are declared, read when scraped.
    routes: Mutex<Vec<Arc<RouteMeter>>>,
}

/// A request under way; gives its place back when dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Meters {
    /// Returns the counters of a new route with this template.
    pub(crate) fn route(&self, template: &str) -> Arc<RouteMeter> {
        let meter =
            Arc::new(RouteMeter { template: template.to_owned(), methods: Default::default() });
        self.routes.lock().push(meter.clone());
        meter
    }

    /// Returns the templates of all routes, for tests.
    #[cfg(test)]
    pub(crate) fn templates(&self) -> Vec<String> {
        self.routes.lock().iter().map(|route| route.template.clone()).collect()
    }

    /// Takes a place for a request unless `max` are taken.
    pub(crate) fn enter(&self, max: usize) -> Option<Place> {
        // The place exists before the check, so that a refused one is given back like any other.
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.under_way.clone());
        (before < max).then_some(place)
    }

    /// Returns how many requests have a place.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Returns the page for Prometheus: these counters and the given gauges (name, help, value).
    pub(crate) fn page(
        &self,
        gauges: Vec<(&'static str, &'static str, f64)>,
    ) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        let under_way = self.under_way.load(Ordering::Relaxed) as i64;
        registry.register(
            "roost_http_requests_under_way",
            "HTTP requests that this node works on",
            ConstGauge::new(under_way),
        );
        for (name, help, value) in gauges {
            registry.register(name, help, ConstGauge::new(value));
        }
        registry.register_collector(Box::new(Requests { routes: self.routes.lock().clone() }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// The counters of one route.
#[derive(Debug)]
pub(crate) struct RouteMeter {
    template: String,
    methods: [MethodMeter; METHODS.len()],
}

impl RouteMeter {
    /// Returns the counters for one method.
    pub(crate) fn method(&self, method: &Method) -> &MethodMeter {
        let index = METHODS.iter().position(|name| *name == method.as_str());
        &self.methods[index.unwrap_or(METHODS.len() - 1)]
    }
}

/// The counters of one method of one route.
#[derive(Debug, Default)]
pub(crate) struct MethodMeter {
    classes: [AtomicU64; CLASSES.len()],
    buckets: [AtomicU64; BUCKETS + 1],
    sum_us: AtomicU64,
}

impl MethodMeter {
    /// Counts one answer and how long it took.
    pub(crate) fn note(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.buckets[bucket_of(took_us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }
}

/// Returns the first bucket whose upper bound is not below this duration.
fn bucket_of(took_us: u64) -> usize {
    let doublings = u64::BITS - (took_us.saturating_sub(1) / FIRST_BUCKET_US).leading_zeros();
    (doublings as usize).min(BUCKETS)
}

/// The counters of all routes, as a page shows them.
#[derive(Debug)]
struct Requests {
    routes: Vec<Arc<RouteMeter>>,
}

impl Requests {
    /// Yields the counters that have counted anything, with their labels.
    fn used(&self) -> impl Iterator<Item = ([(&str, &str); 2], &MethodMeter)> {
        self.routes.iter().flat_map(|route| {
            let used =
                |meter: &MethodMeter| meter.classes.iter().any(|n| n.load(Ordering::Relaxed) > 0);
            route.methods.iter().zip(METHODS).filter(move |(meter, _)| used(meter)).map(
                |(meter, method)| ([("route", route.template.as_str()), ("method", method)], meter),
            )
        })
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let help = "HTTP requests answered, by class of status";
        let mut metric =
            encoder.encode_descriptor("roost_http_requests", help, None, MetricType::Counter)?;
        for ([route, method], meter) in self.used() {
            for (class, count) in CLASSES.iter().zip(&meter.classes) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let labels = [route, method, ("status", class)];
                    metric
                        .encode_family(&labels)?
                        .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        let help = "Time from the head of an HTTP request to the head of its answer";
        let name = "roost_http_request_duration_seconds";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, meter) in self.used() {
            Histogram(meter).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// The durations of one method of one route.
struct Histogram<'a>(&'a MethodMeter);

impl EncodeMetric for Histogram<'_> {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        let bounds = (0..BUCKETS).map(|at| (FIRST_BUCKET_US << at) as f64 / 1e6).chain([f64::MAX]);
        let counts = self.0.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        // Not a counter of its own: a page must not show more requests than its buckets hold.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum_s = self.0.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum_s, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        for (took_us, bucket) in [
            (0, 0),
            (1, 0),
            (128, 0),
            (129, 1),
            (256, 1),
            (257, 2),
            (128 << 15, 15),
            ((128 << 15) + 1, 16),
            (u64::MAX, 16),
        ] {
            assert_eq!(bucket_of(took_us), bucket, "{took_us}");
        }
    }

    #[test]
    fn the_page_shows_what_was_counted_and_nothing_else() {
        let meters = Meters::default();
        let route = meters.route("/v1/znodes/{path}");
        meters.route("/healthz");
        route.method(&Method::PUT).note(StatusCode::OK, Duration::from_micros(200));
        route.method(&Method::PUT).note(StatusCode::CONFLICT, Duration::from_secs(100));
        let page = meters.page(vec![("roost_zxid", "The zxid", 7.0)]).unwrap();
        let labels = r#"route="/v1/znodes/{path}",method="PUT""#;
        for line in [
            format!(r#"roost_http_requests_total{{{labels},status="2xx"}} 1"#),
            format!(r#"roost_http_requests_total{{{labels},status="4xx"}} 1"#),
            format!(r#"roost_http_request_duration_seconds_bucket{{le="0.000128",{labels}}} 0"#),
            format!(r#"roost_http_request_duration_seconds_bucket{{le="0.000256",{labels}}} 1"#),
            format!(r#"roost_http_request_duration_seconds_bucket{{le="+Inf",{labels}}} 2"#),
            format!(r#"roost_http_request_duration_seconds_count{{{labels}}} 2"#),
            "roost_zxid 7.0".to_owned(),
            "roost_http_requests_under_way 0".to_owned(),
        ] {
            assert!(page.lines().any(|shown| shown == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("healthz"));
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let meters = Meters::default();
        let first = meters.enter(1);
        assert!(first.is_some() && meters.enter(1).is_none());
        drop(first);
        assert!(
            meters.enter(1).is_some(),
            "neither the refused nor the finished one keeps a place"
        );
    }
}
