//! The description is what is served, and what is checked in.

use manager::api::{openapi, openapi_text, served};
use std::collections::BTreeSet;
use std::path::Path;

/// Method (lower case) and path of every described operation.
pub(crate) fn described() -> BTreeSet<(String, String)> {
    let value = serde_json::to_value(openapi()).expect("it is JSON");
    let paths = value["paths"].as_object().expect("it has paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("a path has operations");
        item.keys().map(|method| (method.clone(), path.clone()))
    });
    operations.collect()
}

#[test]
fn what_is_served_is_what_is_described() {
    let served: BTreeSet<_> = served()
        .into_iter()
        .map(|(method, path)| (method.to_owned(), path))
        .collect();
    assert_eq!(served, described());
    assert_eq!(served.len(), 47, "a new route also changes this number");
}

#[test]
fn every_operation_says_what_it_is_and_how_it_fails() {
    let value = serde_json::to_value(openapi()).expect("it is JSON");
    for (method, path) in described() {
        let operation = &value["paths"][&path][&method];
        assert!(operation["summary"].is_string(), "{method} {path}");
        let problem = &operation["responses"]["default"]["content"]["application/problem+json"];
        let schema = &problem["schema"]["$ref"];
        assert_eq!(schema, "#/components/schemas/Problem", "{method} {path}");
    }
}

#[test]
fn the_checked_in_description_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi/public.json");
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        kept == openapi_text(),
        "openapi/public.json is not current; `cargo xtask openapi` writes it"
    );
}
