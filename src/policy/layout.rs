use super::{Fields, Wrong};
use crate::registry::{JsonFields, Keys, Reading, Source, Template};

/// Where the registrations of a framework are that the registry does not know, and how one is read. The pattern is a template of
/// their paths, with captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Where.
    pub template: Template,
    /// How.
    pub reading: Reading,
}

/// The ways to read an entry.
const READINGS: [&str; 8] = [
    "url_name",
    "url_data",
    "address_name",
    "address_data",
    "json",
    "curator",
    "kratos",
    "serverset",
];

impl Layout {
    /// Reads it, given the text of its pattern.
    pub(super) fn parse(pattern: &str, fields: &mut Fields) -> Result<Layout, Wrong> {
        let template = Template::parse(pattern).map_err(|why| Wrong::new("pattern", why))?;
        let reading = match fields.need_text("read")?.as_str() {
            "url_name" => Reading::Url(Source::Name),
            "url_data" => Reading::Url(Source::Data),
            "address_name" => Reading::Address(Source::Name),
            "address_data" => Reading::Address(Source::Data),
            "json" => Reading::Json(json(fields)?),
            "curator" => Reading::Curator,
            "kratos" => Reading::Kratos,
            "serverset" => Reading::Serverset,
            other => {
                let why = format!("{other:?} is none of {}", READINGS.join(", "));
                return Err(fields.wrong("read", why));
            }
        };
        Ok(Layout { template, reading })
    }
}

/// Reads the names of the fields of JSON: of each a name, or several, one inside the other, behind slashes: `/net/port`.
fn json(fields: &mut Fields) -> Result<JsonFields, Wrong> {
    let mut json = JsonFields::default();
    for (name, place) in fields.labels("fields")? {
        let keys: Keys = match place.strip_prefix('/') {
            Some(rest) => rest.split('/').map(str::to_owned).collect(),
            None => vec![place.clone()],
        };
        if keys.iter().any(String::is_empty) {
            return Err(fields.wrong(&format!("fields.{name}"), format!("{place:?} has no name")));
        }
        match name.as_str() {
            "address" => json.address = Some(keys),
            "host" => json.host = keys,
            "port" => json.port = keys,
            "weight" => json.weight = keys,
            "status" => json.status = keys,
            "group" => json.group = keys,
            "version" => json.release = keys,
            "metadata" => json.metadata = keys,
            _ => return Err(fields.wrong(&format!("fields.{name}"), "there is no such field")),
        }
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Policy, Terms};
    use super::*;

    fn parse(rest: &str) -> Result<Policy, String> {
        let json = format!(r#"{{"set_by":"a","reason":"b",{rest}}}"#);
        Policy::parse(Kind::Layout, json.as_bytes()).map_err(|wrong| wrong.field)
    }

    #[test]
    fn a_layout_says_where_its_entries_are_and_how_they_are_read() {
        let whole = r#""pattern":"/our/{service}/nodes/{id}","read":"json","fields":{"port":"/net/port","host":"ip"}"#;
        let policy = parse(whole).unwrap();
        assert_eq!(policy.pattern.as_str(), "/our/*/nodes/*");
        let Terms::Layout(Layout { reading: Reading::Json(fields), .. }) = policy.terms else {
            panic!("{policy:?}")
        };
        assert_eq!(
            (fields.port, fields.host),
            (vec!["net".into(), "port".into()], vec!["ip".into()])
        );
        for read in READINGS {
            assert!(
                parse(&format!(r#""pattern":"/our/{{service}}/{{id}}","read":"{read}""#)).is_ok()
            );
        }
        for (rest, field) in [
            (r#""pattern":"/our/*/nodes/*","read":"json""#, "pattern"),
            (r#""pattern":"/our/{service}/{id}""#, "read"),
            (r#""pattern":"/our/{service}/{id}","read":"yaml""#, "read"),
            (r#""pattern":"/our/{service}/{id}","read":"json","fields":{"ip":"x"}"#, "fields.ip"),
            (
                r#""pattern":"/our/{service}/{id}","read":"json","fields":{"port":"/a//b"}"#,
                "fields.port",
            ),
            (r#""pattern":"/our/{service}/{id}","read":"json","fields":{"port":1}"#, "fields"),
            (r#""pattern":"/our/{service}/{id}","read":"curator","fields":{}"#, "fields"),
            (r#""pattern":"/our/{service}/{id}","read":"json","mode":"observe""#, "mode"),
        ] {
            assert_eq!(parse(rest).unwrap_err(), field, "{rest}");
        }
    }
}
