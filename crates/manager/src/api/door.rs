//! What answers while this manager stands by: who leads, and nothing else.

use crate::api::authenticator::{Authenticator, Peer};
use crate::api::edge::request_id;
use crate::api::problems::{Refusal, finish};
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use public_api::{Problem, ProblemCode};
use std::sync::{Arc, PoisonError, RwLock};
use tower::ServiceExt as _;

/// The way into a site: closed at first, with a word about who leads. Clones are the same door.
#[derive(Clone, Debug)]
pub struct Door {
    behind: Arc<RwLock<Behind>>,
    authenticator: Arc<Authenticator>,
}

#[derive(Debug)]
enum Behind {
    /// Another manager leads: this one, if it is known.
    Leader(Option<String>),
    Routes(Router),
}

impl Door {
    /// A closed one.
    pub fn new(authenticator: Authenticator) -> Self {
        Self {
            behind: Arc::new(RwLock::new(Behind::Leader(None))),
            authenticator: Arc::new(authenticator),
        }
    }

    /// Tells from now on that `leader` leads.
    pub fn tell(&self, leader: String) {
        self.set(Behind::Leader(Some(leader)));
    }

    /// Lets requests through from now on.
    pub fn open(&self, routes: Router) {
        self.set(Behind::Routes(routes));
    }

    /// What listeners serve.
    pub fn router(&self) -> Router {
        Router::new().fallback(pass).with_state(self.clone())
    }

    fn set(&self, behind: Behind) {
        *self.behind.write().unwrap_or_else(PoisonError::into_inner) = behind;
    }

    /// The routes; or why there are none.
    fn look(&self) -> Result<Router, Problem> {
        let behind = self.behind.read().unwrap_or_else(PoisonError::into_inner);
        match &*behind {
            Behind::Routes(routes) => Ok(routes.clone()),
            Behind::Leader(Some(leader)) => {
                let detail = format!("this manager stands by: {leader} leads the site");
                Err(Problem::new(ProblemCode::StandingBy, detail))
            }
            Behind::Leader(None) => {
                let detail = "the site is starting";
                Err(Problem::new(ProblemCode::Unavailable, detail))
            }
        }
    }
}

async fn pass(State(door): State<Door>, request: Request) -> Response {
    let problem = match door.look() {
        Ok(routes) => {
            let Ok(response) = routes.oneshot(request).await;
            return response;
        }
        Err(problem) => problem,
    };
    let peer = request.extensions().get::<Peer>();
    let admitted = door
        .authenticator
        .authenticate(peer, request.uri(), request.headers());
    let refusal = admitted.err().unwrap_or_else(|| Refusal::from(problem));
    let route = format!("{} {}", request.method(), request.uri().path());
    finish(refusal.into_response(), &route, &request_id())
}
