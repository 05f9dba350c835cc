//! The description of the API, made from the routes' own attributes.

use crate::api::routes::{
    arrays, events, images, logs, nodes, processes, sessions, site, unclaimed, uploads,
};
use public_api::{Problem, ProcessControl, ProcessEvent, PublicEvent};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi};

const DESCRIPTION: &str = "Errors are problem+json with a stable `code` and a hint. Answers carry \
the number of the last commit in `insula-commit`; a client that sends it back reads at least \
that. On the site's Unix socket the kernel tells who asks; on TCP send the site's key as a \
bearer token.";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Insula",
        version = "1",
        description = DESCRIPTION,
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        site::site,
        nodes::list,
        nodes::node,
        nodes::drain,
        nodes::undrain,
        nodes::remove,
        site::usage,
        site::shutdown,
        site::description,
        unclaimed::list,
        unclaimed::stop,
        unclaimed::remove,
        uploads::upload,
        sessions::create,
        sessions::list,
        sessions::session,
        sessions::stop,
        sessions::pause,
        sessions::resume,
        sessions::priority,
        sessions::remove,
        sessions::change,
        sessions::signal,
        sessions::why,
        sessions::usage,
        sessions::stdin,
        sessions::files,
        processes::exec,
        processes::attach,
        arrays::create,
        arrays::list,
        arrays::array,
        arrays::elements,
        arrays::throttle,
        arrays::priority,
        arrays::stop,
        arrays::pause,
        arrays::resume,
        arrays::remove,
        images::import,
        images::list,
        images::image,
        images::remove,
        images::prune,
        logs::logs,
        events::page,
        events::events,
    ),
    components(schemas(Problem, ProcessControl, ProcessEvent, PublicEvent)),
    modifiers(&Common)
)]
struct Description;

/// What all operations have: the errors, and the key.
struct Common;

impl Modify for Common {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        for item in description.paths.paths.values_mut() {
            for operation in operations(item) {
                let problem = ContentBuilder::new()
                    .schema(Some(Ref::from_schema_name("Problem")))
                    .build();
                let response = ResponseBuilder::new()
                    .description("It was not done; the problem says why and what to do.")
                    .content("application/problem+json", problem)
                    .build();
                let responses = &mut operation.responses.responses;
                responses.insert("default".to_owned(), response.into());
            }
        }
        let components = description.components.get_or_insert_default();
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("key", scheme);
        let key = SecurityRequirement::new::<_, [&str; 0], &str>("key", []);
        description.security = Some(vec![key]);
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ]
    .into_iter()
    .flatten()
}

/// The description of the API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// The description as it stands in `openapi/public.json`. Paths, schemas and properties are in
/// the order of their names, so that it changes only where the API does.
pub fn openapi_text() -> String {
    let text = openapi().to_pretty_json();
    text.expect("a description has only texts and numbers") + "\n"
}
