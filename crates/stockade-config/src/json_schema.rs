//! The JSON Schema of a configuration file, made from the table of keys: editors complete and
//! check by it.

use serde_json::{Map, Value, json};

use crate::keys::{APPROVALS, KEYS, Kind, Known, LISTS};

/// The schema (draft 2020-12) of `config.toml`, as text.
pub fn json_schema() -> String {
    format!("{:#}", whole())
}

fn whole() -> Value {
    let mut top = table(KEYS, "");
    if let Some(top) = top.as_object_mut() {
        top.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        top.insert("title".into(), json!("Stockade configuration"));
    }
    top
}

/// The table of those of `keys` that stand in `table`.
fn table(keys: &[Known], name: &str) -> Value {
    let mut properties = Map::new();
    for known in keys {
        let inner = match name {
            "" => Some(known.path),
            name => known.path.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')),
        };
        let Some(inner) = inner else { continue };
        let (first, is_leaf) = match inner.split_once('.') {
            Some((first, _)) => (first, false),
            None => (inner, true),
        };
        if properties.contains_key(first) {
            continue;
        }
        let path = if name.is_empty() { first.to_owned() } else { format!("{name}.{first}") };
        let value = match (is_leaf, LISTS.contains(&path.as_str())) {
            (true, _) => described(known),
            (false, true) => json!({ "type": "array", "items": table(keys, &path) }),
            (false, false) => table(keys, &path),
        };
        properties.insert(first.to_owned(), value);
    }
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn described(known: &Known) -> Value {
    let mut value = of_kind(known.kind);
    if let Some(value) = value.as_object_mut() {
        value.insert("description".into(), json!(known.about));
    }
    value
}

fn of_kind(kind: Kind) -> Value {
    let texts = || json!({ "type": "array", "items": { "type": "string" } });
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Approval => json!({ "oneOf": [
            { "enum": APPROVALS },
            { "type": "object", "additionalProperties": false, "required": ["granular"],
              "properties": { "granular": {
                  "type": "object", "additionalProperties": { "type": "boolean" },
                  "required": ["sandbox_approval", "rules", "mcp_elicitations"] } } },
        ] }),
        Kind::Number(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Size => json!({ "type": "string", "pattern": "^[0-9]+ *([KMGT]i?B|[KMGTkB])?$" }),
        Kind::Time => json!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d) ?)+$" }),
        Kind::Date => json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}" }),
        Kind::Texts => texts(),
        Kind::Ports => {
            let port = json!({ "type": "integer", "minimum": 1, "maximum": u16::MAX });
            json!({ "type": "array", "items": port })
        }
        Kind::Map => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::Prefix => json!({ "oneOf": [
            { "type": "string" },
            { "type": "array", "items": { "oneOf": [{ "type": "string" }, texts()] } },
        ] }),
        Kind::Key => json!({ "oneOf": [
            { "type": "object", "additionalProperties": false, "required": ["env"],
              "properties": { "env": { "type": "string" } } },
            { "type": "object", "additionalProperties": false, "required": ["command"],
              "properties": { "command": texts() } },
            { "type": "object", "additionalProperties": false, "required": ["keyring"],
              "properties": { "keyring": texts() } },
        ] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{Layer, Source};
    use crate::schema;

    fn read(text: String) -> Result<(), String> {
        let source = Source { name: "config.toml".into(), text, layer: Layer::User };
        schema::read(&source).map(drop).map_err(|error| error.to_string())
    }

    /// An example of a value, and one of another type.
    fn examples(known: &Known) -> (String, &'static str) {
        match known.kind {
            Kind::Text if known.path == "model.base_url" => ("'https://a.example/v1'".into(), "1"),
            Kind::Text => ("'x'".into(), "1"),
            Kind::Word(words) => (format!("'{}'", words[0]), "'xyzzy'"),
            Kind::Flag => ("false".into(), "'x'"),
            Kind::Approval => ("'untrusted'".into(), "'xyzzy'"),
            Kind::Number(least, _) => (least.to_string(), "'x'"),
            Kind::Size => ("'512MiB'".into(), "'much'"),
            Kind::Time => ("'40s'".into(), "'long'"),
            Kind::Date => ("2030-12-31".into(), "'soon'"),
            Kind::Ports => ("[5432]".into(), "[0]"),
            Kind::Texts if known.path == "network.private" => ("['10.0.0.0/8']".into(), "1"),
            Kind::Texts if known.path == "network.rules.methods" => ("['GET']".into(), "1"),
            Kind::Texts if known.path == "network.rules.paths" => ("['/a/**']".into(), "1"),
            Kind::Texts if known.path == "unprotected" => ("['.env']".into(), "1"),
            Kind::Texts if known.path == "rules.not_match" => ("['b']".into(), "1"),
            Kind::Texts => ("['a']".into(), "1"),
            Kind::Map => ("{ A = 'b' }".into(), "1"),
            Kind::Prefix => ("['a', ['b', 'c']]".into(), "1"),
            Kind::Key => ("{ env = 'A' }".into(), "1"),
        }
    }

    /// A file in which `known` has `value`, whole enough to be read.
    fn file(known: &Known, value: &str) -> String {
        if let Some(key) = known.path.strip_prefix("network.rules.") {
            let others = ["host = 'a.org'", "methods = ['GET']", "credential = { env = 'A' }"];
            let others = others.iter().filter(|line| !line.starts_with(key));
            let lines: String = others.flat_map(|line| [line, "\n"]).collect();
            return format!("[[network.rules]]\n{lines}{key} = {value}\n");
        }
        if let Some(key) = known.path.strip_prefix("network.ssh.") {
            let others = ["host = 'a.org'", "key = '/k'"];
            let others = others.iter().filter(|line| !line.starts_with(key));
            let lines: String = others.flat_map(|line| [line, "\n"]).collect();
            return format!("[[network.ssh]]\n{lines}{key} = {value}\n");
        }
        let Some(key) = known.path.strip_prefix("rules.") else {
            return format!("{} = {value}\n", known.path);
        };
        let mut text = "[[rules]]\n".to_owned();
        if key != "prefix" {
            text.push_str("prefix = 'a'\n");
        }
        if !["allow", "decision"].contains(&key) {
            text.push_str("allow = true\n");
        }
        format!("{text}{key} = {value}\n")
    }

    #[test]
    fn every_key_of_the_table_is_one_that_the_reader_takes() {
        for known in KEYS {
            let (good, wrong) = examples(known);
            let good = read(file(known, &good));
            let wrong = read(file(known, wrong));
            assert!(good.is_ok(), "{}: {good:?}", known.path);
            // What a cloud thread cannot hold to yet is not looked into.
            let is_unread = known.path.starts_with("cloud.") && wrong.is_ok();
            let is_unread = is_unread && !matches!(known.kind, Kind::Size | Kind::Time);
            assert!(wrong.is_err() || is_unread, "{}: {wrong:?}", known.path);
            if let Err(error) = wrong {
                assert!(!error.contains("unknown key"), "{}: {error}", known.path);
            }
        }
    }

    #[test]
    fn the_schema_has_each_key_where_it_stands() {
        let schema = whole();
        let at = |path: &str| schema.pointer(path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(at("/properties/limits/properties/processes/minimum"), &json!(16));
        assert_eq!(at("/properties/sandbox_mode/enum/0"), &json!("read-only"));
        assert_eq!(at("/properties/rules/type"), &json!("array"));
        let grant = "/properties/rules/items/properties/grant/properties/hosts/type";
        assert_eq!(at(grant), &json!("array"));
        assert_eq!(at("/properties/env/additionalProperties"), &json!(false));
    }
}
