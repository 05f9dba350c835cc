//! The table of routes. A route's method and path come from its description, so that none can
//! be served that is not described.

pub(super) mod arrays;
pub(super) mod events;
pub(super) mod images;
pub(super) mod logs;
pub(super) mod nodes;
pub(super) mod processes;
pub(super) mod sessions;
pub(super) mod site;
pub(super) mod unclaimed;
pub(super) mod uploads;

use crate::api::Api;
use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use utoipa::openapi::HttpMethod;

/// In the description: a body that is not JSON.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct RawBytes(#[expect(dead_code, reason = "only its description is used")] Vec<u8>);

/// Routes, and the list of them.
pub(super) struct Table {
    pub(super) router: Router<Api>,
    pub(super) served: Vec<(&'static str, String)>,
}

/// Every route there is.
pub(super) fn table() -> Table {
    let empty = Table {
        router: Router::new(),
        served: Vec::new(),
    };
    empty
        .add::<site::__path_site, _, _>(site::site)
        .add::<nodes::__path_list, _, _>(nodes::list)
        .add::<nodes::__path_node, _, _>(nodes::node)
        .add::<nodes::__path_drain, _, _>(nodes::drain)
        .add::<nodes::__path_undrain, _, _>(nodes::undrain)
        .add::<nodes::__path_remove, _, _>(nodes::remove)
        .add::<site::__path_usage, _, _>(site::usage)
        .add::<site::__path_shutdown, _, _>(site::shutdown)
        .add::<site::__path_description, _, _>(site::description)
        .add::<unclaimed::__path_list, _, _>(unclaimed::list)
        .add::<unclaimed::__path_stop, _, _>(unclaimed::stop)
        .add::<unclaimed::__path_remove, _, _>(unclaimed::remove)
        .add::<uploads::__path_upload, _, _>(uploads::upload)
        .add::<sessions::__path_create, _, _>(sessions::create)
        .add::<sessions::__path_list, _, _>(sessions::list)
        .add::<sessions::__path_session, _, _>(sessions::session)
        .add::<sessions::__path_stop, _, _>(sessions::stop)
        .add::<sessions::__path_pause, _, _>(sessions::pause)
        .add::<sessions::__path_resume, _, _>(sessions::resume)
        .add::<sessions::__path_priority, _, _>(sessions::priority)
        .add::<sessions::__path_remove, _, _>(sessions::remove)
        .add::<sessions::__path_change, _, _>(sessions::change)
        .add::<sessions::__path_signal, _, _>(sessions::signal)
        .add::<sessions::__path_why, _, _>(sessions::why)
        .add::<sessions::__path_usage, _, _>(sessions::usage)
        .add::<sessions::__path_stdin, _, _>(sessions::stdin)
        .add::<sessions::__path_files, _, _>(sessions::files)
        .add::<processes::__path_exec, _, _>(processes::exec)
        .add::<processes::__path_attach, _, _>(processes::attach)
        .add::<arrays::__path_create, _, _>(arrays::create)
        .add::<arrays::__path_list, _, _>(arrays::list)
        .add::<arrays::__path_array, _, _>(arrays::array)
        .add::<arrays::__path_elements, _, _>(arrays::elements)
        .add::<arrays::__path_throttle, _, _>(arrays::throttle)
        .add::<arrays::__path_priority, _, _>(arrays::priority)
        .add::<arrays::__path_stop, _, _>(arrays::stop)
        .add::<arrays::__path_pause, _, _>(arrays::pause)
        .add::<arrays::__path_resume, _, _>(arrays::resume)
        .add::<arrays::__path_remove, _, _>(arrays::remove)
        .add::<logs::__path_logs, _, _>(logs::logs)
        .add::<events::__path_page, _, _>(events::page)
        .add::<images::__path_import, _, _>(images::import)
        .add::<images::__path_list, _, _>(images::list)
        .add::<images::__path_image, _, _>(images::image)
        .add::<images::__path_remove, _, _>(images::remove)
        .add::<images::__path_prune, _, _>(images::prune)
        .add::<events::__path_events, _, _>(events::events)
}

impl Table {
    /// Adds the route that `P` describes.
    fn add<P: utoipa::Path, H: Handler<T, Api>, T: 'static>(mut self, handler: H) -> Self {
        let path = P::path();
        for method in P::methods() {
            let (name, filter) = names(&method);
            let route = on(filter, handler.clone());
            self.router = self.router.route(&path, route);
            self.served.push((name, path.clone()));
        }
        self
    }
}

fn names(method: &HttpMethod) -> (&'static str, MethodFilter) {
    match method {
        HttpMethod::Get => ("get", MethodFilter::GET),
        HttpMethod::Post => ("post", MethodFilter::POST),
        HttpMethod::Put => ("put", MethodFilter::PUT),
        HttpMethod::Delete => ("delete", MethodFilter::DELETE),
        HttpMethod::Options => ("options", MethodFilter::OPTIONS),
        HttpMethod::Head => ("head", MethodFilter::HEAD),
        HttpMethod::Patch => ("patch", MethodFilter::PATCH),
        HttpMethod::Trace => ("trace", MethodFilter::TRACE),
    }
}
