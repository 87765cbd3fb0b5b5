use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// What is wrong with a policy, and in which field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The field, with its place for one inside a list: `allow[2].who`.
    pub field: String,
    /// What is wrong with it, for a person.
    pub reason: String,
}

impl Wrong {
    /// Returns that this is wrong with a field.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Wrong {
        Wrong { field: field.into(), reason: reason.into() }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

/// The fields of a JSON object that have not been taken yet. Each kind takes its own; what is left at the end is not known.
#[derive(Clone, Debug)]
pub struct Fields {
    /// Stands before the names of the fields; empty for the policy itself.
    place: String,
    left: Map<String, Value>,
}

impl Fields {
    /// Reads a JSON object.
    pub fn parse(bytes: &[u8]) -> Result<Fields, Wrong> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(left)) => Ok(Fields { place: String::new(), left }),
            Ok(_) => Err(Wrong::new("the policy", "it is not a JSON object")),
            Err(why) => Err(Wrong::new("the policy", format!("it is not JSON: {why}"))),
        }
    }

    /// Returns that something is wrong with the field of this name.
    pub fn wrong(&self, name: &str, reason: impl Into<String>) -> Wrong {
        Wrong::new(format!("{}{name}", self.place), reason)
    }

    /// Returns whether a field is there.
    pub fn has(&self, name: &str) -> bool {
        self.left.get(name).is_some_and(|value| !value.is_null())
    }

    /// Takes a field as it is; null is as if it were not there.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Wrong> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "it is not a text")),
        }
    }

    /// Takes a text that must be there and not be empty.
    pub fn need_text(&mut self, name: &str) -> Result<String, Wrong> {
        match self.text(name)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            Some(_) => Err(self.wrong(name, "it is empty")),
            None => Err(self.wrong(name, "it is missing")),
        }
    }

    /// Takes a whole number within a range.
    pub fn whole(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Wrong> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_u64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (least, most) = (range.start(), range.end());
                let why = format!("{value} is not a whole number from {least} to {most}");
                Err(self.wrong(name, why))
            }
        }
    }

    /// Takes `true` or `false`.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, Wrong> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.wrong(name, "it is neither true nor false")),
        }
    }

    /// Takes a ratio from 0 to 1 with at most three decimals, such as 0.2, as a permille. It is read from its digits: no
    /// float has a say in anything that is replicated.
    pub fn permille(&mut self, name: &str) -> Result<Option<u32>, Wrong> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let digits = match &value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => return Err(self.wrong(name, "it is not a number")),
        };
        let why = || format!("{digits} is not a ratio from 0 to 1 with at most three decimals");
        permille(&digits).map(Some).ok_or_else(|| self.wrong(name, why()))
    }

    /// Takes a list of texts.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, Wrong> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let Value::Array(items) = value else { return Err(self.wrong(name, "it is not a list")) };
        let text = |item: Value| match item {
            Value::String(text) => Ok(text),
            other => Err(self.wrong(name, format!("{other} is not a text"))),
        };
        items.into_iter().map(text).collect::<Result<_, _>>().map(Some)
    }

    /// Takes an object of texts by their names.
    pub fn labels(&mut self, name: &str) -> Result<BTreeMap<String, String>, Wrong> {
        let Some(value) = self.take(name) else { return Ok(BTreeMap::new()) };
        let Value::Object(items) = value else {
            return Err(self.wrong(name, "it is not an object"));
        };
        let label = |(key, item): (String, Value)| match item {
            Value::String(text) => Ok((key, text)),
            other => Err(self.wrong(name, format!("{key} is {other}, which is not a text"))),
        };
        items.into_iter().map(label).collect()
    }

    /// Takes a list of objects.
    pub fn objects(&mut self, name: &str) -> Result<Vec<Fields>, Wrong> {
        let Some(value) = self.take(name) else { return Ok(Vec::new()) };
        let Value::Array(items) = value else { return Err(self.wrong(name, "it is not a list")) };
        let object = |(at, item): (usize, Value)| match item {
            Value::Object(left) => {
                Ok(Fields { place: format!("{}{name}[{at}].", self.place), left })
            }
            _ => Err(self.wrong(name, format!("item {at} is not an object"))),
        };
        items.into_iter().enumerate().map(object).collect()
    }

    /// Refuses what has not been taken.
    pub fn finish(self) -> Result<(), Wrong> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(self.wrong(name, "there is no such field")),
        }
    }
}

/// Reads `0.25`, `.5` or `1` as thousandths.
fn permille(digits: &str) -> Option<u32> {
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u32 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "" | "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, permille};

    #[test]
    fn a_ratio_is_read_from_its_digits() {
        for (digits, expected) in [
            ("0.2", Some(200)),
            ("0.20", Some(200)),
            ("0.125", Some(125)),
            ("0.001", Some(1)),
            ("0", Some(0)),
            ("0.0", Some(0)),
            ("1", Some(1000)),
            ("1.0", Some(1000)),
            ("0.1234", None),
            ("1.001", None),
            ("2", None),
            ("-0.1", None),
            ("1e-1", None),
            ("0.+1", None),
        ] {
            assert_eq!(permille(digits), expected, "{digits}");
        }
        // Every ratio that can be written survives the way through a JSON number.
        for thousandths in 0..=1000 {
            let json = format!(r#"{{"r":{}.{:03}}}"#, thousandths / 1000, thousandths % 1000);
            let mut fields = Fields::parse(json.as_bytes()).unwrap();
            assert_eq!(fields.permille("r").unwrap(), Some(thousandths), "{json}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let json =
            br#"{"list":[{"who":1}],"n":9,"flag":"x","texts":[1],"labels":{"a":1},"left":1}"#;
        let mut fields = Fields::parse(json).unwrap();
        let mut items = fields.objects("list").unwrap();
        assert_eq!(items[0].text("who").unwrap_err().field, "list[0].who");
        assert!(fields.whole("n", 0..=8).unwrap_err().reason.contains("0 to 8"));
        assert_eq!(fields.flag("flag").unwrap_err().field, "flag");
        assert_eq!(fields.texts("texts").unwrap_err().field, "texts");
        assert_eq!(fields.labels("labels").unwrap_err().field, "labels");
        assert_eq!(fields.finish().unwrap_err().field, "left");
    }
}
