use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::value::Value;
use minijinja::{Environment, UndefinedBehavior, context};
use parking_lot::Mutex;

use crate::sdk::Instance;

/// Who provides a service; `None` when that is not known yet.
pub(super) type Lookup = Arc<dyn Fn(&str) -> Option<Vec<Arc<Instance>>> + Send + Sync>;

/// Returns the text of a template, or `None` when it asks for a service of which nothing is known yet. Error: the template
/// is wrong, with the line.
pub(super) fn render(
    name: &str,
    template: &str,
    lookup: &Lookup,
) -> Result<Option<String>, String> {
    let unknown = Arc::new(Mutex::new(BTreeSet::new()));
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    for (function, all) in [("service", false), ("instances", true)] {
        let (lookup, unknown) = (lookup.clone(), unknown.clone());
        environment.add_function(function, move |service: String| -> Value {
            let Some(instances) = lookup(&service) else {
                unknown.lock().insert(service);
                return Value::from(Vec::<Value>::new());
            };
            let wanted = instances.iter().filter(|instance| all || instance.wants_traffic());
            wanted
                .filter(|instance| is_plain(&instance.host))
                .map(|instance| shown(instance))
                .collect()
        });
    }
    let rendered = environment.render_named_str(name, template, context! {});
    if !unknown.lock().is_empty() {
        // What failed may have failed for want of the list.
        return Ok(None);
    }
    rendered.map(Some).map_err(|err| format!("{err:#}"))
}

fn shown(instance: &Instance) -> Value {
    context! {
        id => instance.id,
        host => instance.host,
        port => instance.port,
        addr => instance.addr(),
        weight => instance.weight,
        status => instance.status,
        health => instance.health,
        metadata => instance.metadata,
    }
}

/// Returns whether a host is a name or an address and nothing that a configuration file would read as more.
fn is_plain(host: &str) -> bool {
    !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "._-:[]".contains(c))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::{Instance, Lookup, render};

    fn instance(id: &str, host: &str, weight: u32) -> Arc<Instance> {
        Arc::new(Instance {
            id: id.to_owned(),
            weight,
            metadata: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
            ..Instance::fixed(host, 80)
        })
    }

    fn lookup() -> Lookup {
        Arc::new(|service| match service {
            "web" => Some(vec![
                instance("1", "10.0.0.1", 7),
                instance("2", "10.0.0.2", 0),
                instance("3", "x; evil", 7),
                instance("4", "::1", 1),
            ]),
            "none" => Some(Vec::new()),
            _ => None,
        })
    }

    #[test]
    fn the_nginx_template_renders_those_that_take_traffic() {
        let template = include_str!("../../../config/nginx-upstream.conf.j2");
        let text = render("nginx", template, &lookup()).unwrap().unwrap();
        let servers: Vec<&str> =
            text.lines().filter(|line| line.trim().starts_with("server ")).map(str::trim).collect();
        assert_eq!(
            servers[..2],
            ["server 10.0.0.1:80 weight=7;", "server [::1]:80 weight=1;"],
            "{text}"
        );
        assert!(!text.contains("evil"));
    }

    #[test]
    fn lists_have_all_fields_and_an_unknown_service_is_waited_for() {
        let all = "{% for p in instances('web') %}{{ p.id }}={{ p.addr }}/{{ p.weight }}/{{ p.status }}/{{ p.metadata.zone }} {% endfor %}";
        let text = render("t", all, &lookup()).unwrap().unwrap();
        assert_eq!(text, "1=10.0.0.1:80/7/up/a 2=10.0.0.2:80/0/up/a 4=[::1]:80/1/up/a ");
        assert_eq!(
            render("t", "{{ service('none')|length }}", &lookup()),
            Ok(Some("0".to_owned()))
        );
        assert_eq!(render("t", "{{ service('new')[0].addr }}", &lookup()), Ok(None));
        for wrong in ["{% for %}", "{{ nothing }}", "{{ service() }}"] {
            assert!(render("t", wrong, &lookup()).is_err(), "{wrong}");
        }
    }
}
