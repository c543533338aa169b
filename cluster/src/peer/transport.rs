//! HTTP/2 and gRPC over a socket that was introduced: hyper drives it, tonic frames the messages.
//!
//! Not tonic's own transport: its channel connects, balances and retries by a policy of its own,
//! wants tasks that are `Send`, and brings a router. Here a connection carries one stream for as
//! long as it lives, and everything runs on the shard's thread.

use super::codec::BatchCodec;
use super::feed::{Outbound, Requests};
use super::limits::{BATCH_BYTES_MAX, SEND_BUFFER_BYTES_MAX, WINDOW_BYTES};
use bytes::Bytes;
use env::net::TcpStream;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::task::AbortHandle;
use tonic::body::Body;
use tonic::codec::{EncodeBody, SingleMessageCompressionOverride};
use tonic::{Status, Streaming};

/// The one method there is: batches both ways. What for is the introduction's to say.
const PATH: &str = "/tethys.Peer/Exchange";

/// Bytes of an HTTP/2 frame: a batch with gRPC's five bytes before it in one piece.
const FRAME_BYTES_MAX: u32 = 2 * BATCH_BYTES_MAX as u32;

/// Bytes of a request's headers.
const HEADER_BYTES_MAX: u32 = 4 * 1024;

/// The tasks of one connection, to be ended together.
#[derive(Clone, Debug, Default)]
pub(super) struct LocalTasks(Rc<RefCell<Vec<AbortHandle>>>);

impl LocalTasks {
    /// Runs a task on this thread until it ends or its owner does.
    pub(super) fn spawn<F>(&self, task: F)
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let mut handles = self.0.borrow_mut();
        handles.retain(|handle| !handle.is_finished());
        handles.push(tokio::task::spawn_local(task).abort_handle());
    }
}

impl<F> hyper::rt::Executor<F> for LocalTasks
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

/// Ends the tasks when dropped.
#[derive(Debug)]
pub(super) struct OwnedTasks(pub(super) LocalTasks);

impl Drop for OwnedTasks {
    fn drop(&mut self) {
        let handles = std::mem::take(&mut *self.0.0.borrow_mut());
        for handle in handles {
            handle.abort();
        }
    }
}

/// Speaks first on a connection: returns the batches that come, once the peer has accepted.
pub(super) async fn call(
    socket: TcpStream,
    tasks: &LocalTasks,
    outbound: Outbound,
) -> Result<Streaming<Bytes>, Status> {
    let (sender, connection) = hyper::client::conn::http2::Builder::new(tasks.clone())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    tasks.spawn(async move { connection.await.ok() });
    let origin = Uri::from_static("http://peer");
    let mut client = tonic::client::Grpc::with_origin(Channel(sender), origin)
        .max_decoding_message_size(BATCH_BYTES_MAX);
    let request = tonic::Request::new(Requests(outbound));
    let path = PathAndQuery::from_static(PATH);
    client.streaming(request, path, BatchCodec).await.map(tonic::Response::into_inner)
}

/// hyper's connection as the service that tonic's client calls.
struct Channel(SendRequest<Body>);

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Waits to be spoken to on a connection, and serves it until it ends. `on_stream` is given the
/// batches that come, and returns those that go; a second stream is refused.
pub(super) async fn serve<OnStream>(
    socket: TcpStream,
    tasks: &LocalTasks,
    on_stream: OnStream,
) -> Result<(), hyper::Error>
where
    OnStream: AsyncFnOnce(Streaming<Bytes>) -> Result<Outbound, Status> + 'static,
{
    let on_stream = Rc::new(RefCell::new(Some(on_stream)));
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let on_stream = on_stream.clone();
        async move { Ok::<_, Infallible>(answer(request, &on_stream).await) }
    });
    hyper::server::conn::http2::Builder::new(tasks.clone())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .max_concurrent_streams(1)
        .serve_connection(TokioIo::new(socket), service)
        .await
}

async fn answer<OnStream>(
    request: Request<Incoming>,
    on_stream: &RefCell<Option<OnStream>>,
) -> Response<Body>
where
    OnStream: AsyncFnOnce(Streaming<Bytes>) -> Result<Outbound, Status>,
{
    if request.uri().path() != PATH {
        return Status::unimplemented("there is no such method").into_http();
    }
    let Some(on_stream) = on_stream.take() else {
        return Status::resource_exhausted("a connection carries one stream").into_http();
    };
    let body = request.into_body();
    let batches = Streaming::new_request(BatchCodec, body, None, Some(BATCH_BYTES_MAX));
    match on_stream(batches).await {
        Ok(outbound) => {
            let compression = SingleMessageCompressionOverride::Disable;
            let body = EncodeBody::new_server(BatchCodec, outbound, None, compression, None);
            let mut response = Response::new(Body::new(body));
            let grpc = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
            response
        }
        Err(status) => status.into_http(),
    }
}
