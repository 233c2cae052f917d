//! Whether a value fits a schema: the part of JSON Schema 2020-12 that our document uses, and an outcry at any other keyword.
//! (`schemathesis` judges the same answers with a validator of its own.)

use serde_json::{Map, Value};

/// Keys of objects of which no schema tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Right unless the schema says otherwise.
    AsTold,
    /// Wrong: an answer has no key that is not documented.
    NoOthers,
}

/// Why `value` does not fit.
pub fn misfit(root: &Value, schema: &Value, value: &Value, keys: Keys) -> Option<String> {
    Judge { root, keys }.misfit(schema, value, "")
}

struct Judge<'a> {
    root: &'a Value,
    keys: Keys,
}

impl Judge<'_> {
    fn misfit(&self, schema: &Value, value: &Value, at: &str) -> Option<String> {
        let map = match schema {
            Value::Bool(true) => return None,
            Value::Bool(false) => return Some(format!("{at}: nothing may be here")),
            other => other.as_object().unwrap_or_else(|| panic!("{other} is no schema")),
        };
        map.iter().find_map(|(keyword, wanted)| self.breaks(keyword, wanted, map, value, at))
    }

    fn breaks(
        &self,
        keyword: &str,
        wanted: &Value,
        map: &Map<String, Value>,
        value: &Value,
        at: &str,
    ) -> Option<String> {
        let wrong = |is: bool| is.then(|| format!("{at}: {value} breaks {keyword} {wanted}"));
        let number = || wanted.as_f64().unwrap();
        let count = || usize::try_from(wanted.as_u64().unwrap()).unwrap();
        let text = value.as_str();
        let length = text.map(|text| text.chars().count());
        match keyword {
            "description" | "default" | "examples" | "format" | "title" => None,
            "$ref" => {
                let name = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                self.misfit(self.root.pointer(name).unwrap_or_else(|| panic!("there is no {name}")), value, at)
            }
            "type" => {
                let one = |kind: &Value| kind.as_str().is_some_and(|kind| is(kind, value));
                wrong(!wanted.as_array().map_or_else(|| one(wanted), |all| all.iter().any(one)))
            }
            "enum" => wrong(!wanted.as_array().unwrap().contains(value)),
            "const" => wrong(wanted != value),
            "oneOf" | "anyOf" => {
                let tries: Vec<_> = wanted.as_array().unwrap().iter().map(|one| self.misfit(one, value, at)).collect();
                let fit = tries.iter().filter(|one| one.is_none()).count();
                let fine = fit == 1 || fit > 1 && keyword == "anyOf";
                (!fine).then(|| format!("{at}: {fit} of {keyword} fit: {tries:?}"))
            }
            "pattern" => {
                wrong(text.is_some_and(|text| !regex::Regex::new(wanted.as_str().unwrap()).unwrap().is_match(text)))
            }
            "minLength" => wrong(length.is_some_and(|length| length < count())),
            "maxLength" => wrong(length.is_some_and(|length| length > count())),
            "minimum" => wrong(value.as_f64().is_some_and(|value| value < number())),
            "maximum" => wrong(value.as_f64().is_some_and(|value| value > number())),
            "minItems" => wrong(value.as_array().is_some_and(|list| list.len() < count())),
            "maxItems" => wrong(value.as_array().is_some_and(|list| list.len() > count())),
            "maxProperties" => wrong(value.as_object().is_some_and(|map| map.len() > count())),
            "items" => {
                let mut all = value.as_array().into_iter().flatten().zip(0..);
                all.find_map(|(one, index)| self.misfit(wanted, one, &format!("{at}/{index}")))
            }
            "required" => {
                let object = value.as_object()?;
                let lacks = |key: &&Value| !object.contains_key(key.as_str().unwrap());
                wanted.as_array().unwrap().iter().find(lacks).map(|key| format!("{at}: {key} is missing"))
            }
            "propertyNames" => {
                let mut names = value.as_object().into_iter().flat_map(Map::keys);
                names.find_map(|name| self.misfit(wanted, &Value::String(name.clone()), &format!("{at}/{name}")))
            }
            "properties" => {
                let (told, object) = (wanted.as_object().unwrap(), value.as_object()?);
                object.iter().find_map(|(key, value)| match told.get(key) {
                    Some(schema) => self.misfit(schema, value, &format!("{at}/{key}")),
                    None if self.keys == Keys::NoOthers => Some(format!("{at}/{key} is not told of")),
                    None => None,
                })
            }
            "additionalProperties" => {
                let (object, told) = (value.as_object()?, map.get("properties").and_then(Value::as_object));
                let mut others = object.iter().filter(|(key, _)| !told.is_some_and(|told| told.contains_key(*key)));
                others.find_map(|(key, value)| self.misfit(wanted, value, &format!("{at}/{key}")))
            }
            other => panic!("{other} is a keyword that is not known here"),
        }
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

#[test]
fn what_does_not_fit_is_found() {
    use serde_json::json;
    let root =
        json!({"a": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}});
    let schema = json!({"oneOf": [{"$ref": "#/a"}, {"type": ["string", "null"], "pattern": "^x", "maxLength": 2}]});
    let fits = |value: Value, keys| misfit(&root, &schema, &value, keys).is_none();
    for good in [json!({"n": 1}), json!({"n": 9, "other": 0}), json!("x"), json!(null)] {
        assert!(fits(good.clone(), Keys::AsTold), "{good}");
    }
    for bad in [json!({"n": 0}), json!({"n": "1"}), json!({}), json!("y"), json!("xyz"), json!(1), json!([])] {
        assert!(!fits(bad.clone(), Keys::AsTold), "{bad}");
    }
    assert!(!fits(json!({"n": 9, "other": 0}), Keys::NoOthers));
}
