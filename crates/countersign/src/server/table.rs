//! The services of a port by name.
//!
//! Paths are looked up byte for byte as the policy saw them, without patterns and without decoding.

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Service, ServiceExt};

/// The future of generated services.
pub(crate) type BoxedAnswer =
    Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send + 'static>>;

trait Serve: Send + Sync {
    fn answer(&self, request: Request<Body>) -> BoxedAnswer;
}

impl<S> Serve for S
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    fn answer(&self, request: Request<Body>) -> BoxedAnswer {
        let mut service = self.clone();
        // Generated services are always ready.
        let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
        if ready.is_pending() {
            return Box::pin(service.oneshot(request));
        }
        // And what they answer with is in a box already.
        let mut answer = Some(service.call(request));
        let boxed = (&mut answer as &mut dyn Any).downcast_mut::<Option<BoxedAnswer>>();
        match (boxed.and_then(Option::take), answer) {
            (Some(boxed), _) => boxed,
            (None, Some(answer)) => Box::pin(answer),
            (None, None) => Box::pin(std::future::ready(Ok(unserved()))),
        }
    }
}

/// Services by their names.
#[derive(Default)]
pub(crate) struct ServiceTable(Vec<(&'static str, Box<dyn Serve>)>);

impl ServiceTable {
    pub(crate) fn add<S>(&mut self, name: &'static str, service: S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.0.push((name, Box::new(service)));
    }

    /// Each name.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }

    /// Calls the service of this path; `None` if there is no such service.
    pub(crate) fn call(&self, request: Request<Body>) -> Option<BoxedAnswer> {
        let path = request.uri().path().strip_prefix('/')?;
        let (name, _method) = path.split_once('/')?;
        let (_, service) = self.0.iter().find(|(known, _)| *known == name)?;
        Some(service.answer(request))
    }
}

impl fmt::Debug for ServiceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// The response to a call of an unknown service.
pub(crate) fn unserved() -> Response<Body> {
    Status::unimplemented("").into_http()
}
