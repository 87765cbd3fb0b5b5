//! The bodies of requests, and the room that they take together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use bytes::BytesMut;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Door;
use super::error::Failed;
use crate::limits::{BODY_BYTES_DRAINED_MAX, BODY_BYTES_MAX, DATA_BYTES_MAX, HTTP_BODY_MS_MAX};
use crate::types::{Data, Error};

/// Advice to a client for whose body there is no room, ms.
const RETRY_AFTER_MS: u64 = 100;

/// The body as the data of a znode.
#[derive(Debug)]
pub(crate) struct RawData(pub(crate) Data);

impl FromRequest<Door> for RawData {
    type Rejection = Failed;

    async fn from_request(request: Request, door: &Door) -> Result<RawData, Failed> {
        let bytes = body(request, door.bodies(), "the data, in bytes,", DATA_BYTES_MAX).await?;
        Ok(RawData(Data::new(&bytes)))
    }
}

/// The body as JSON, whatever its content type says.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Door> for Json<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, door: &Door) -> Result<Json<T>, Failed> {
        let bytes = body(request, door.bodies(), "the body, in bytes,", BODY_BYTES_MAX).await?;
        parse_json(&bytes).map(Json)
    }
}

/// Parses a JSON body; the refusal says what is wrong and where.
pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failed> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|why| Failed::bad_request(format!("in the body: {why}")))
}

/// The room that the body of one request takes among [`HTTP_BODIES_BYTES_MAX`], until the request is answered.
#[derive(Clone, Default)]
pub(crate) struct Room(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Room {
    /// Takes room for so many bytes more.
    fn take(&self, all: &Arc<Semaphore>, bytes: usize) -> Result<(), Failed> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let what = "the room for bodies of requests";
        let busy = Failed::from(Error::Busy { what, retry_after_ms: RETRY_AFTER_MS });
        let more = all.clone().try_acquire_many_owned(bytes).map_err(|_| busy)?;
        let mut taken = self.0.lock();
        match taken.as_mut() {
            Some(taken) => taken.merge(more),
            None => *taken = Some(more),
        }
        Ok(())
    }
}

/// Reads a whole body of at most `limit` bytes, while there is room for it among the bodies of all requests. What is refused
/// is received all the same.
async fn body(
    mut request: Request,
    all: &Arc<Semaphore>,
    what: &'static str,
    limit: usize,
) -> Result<Bytes, Failed> {
    let room = request.extensions_mut().remove::<Room>().unwrap_or_default();
    let mut body = request.into_body();
    let refused = if body.size_hint().lower() > limit as u64 {
        too_large(what, limit)
    } else {
        let reading = receive(&mut body, &room, all, what, limit);
        let patience = Duration::from_millis(HTTP_BODY_MS_MAX);
        let read = tokio::time::timeout(patience, reading).await;
        match read.map_err(|_| Failed::bad_request("the body took too long to arrive"))? {
            Ok(bytes) => return Ok(bytes),
            Err(refused) => refused,
        }
    };
    // What had arrived is gone.
    drop(room.0.lock().take());
    drain(body).await;
    Err(refused)
}

fn too_large(what: &'static str, limit: usize) -> Failed {
    Failed::from(Error::TooLarge { what, limit: limit as u64 })
}

async fn receive(
    body: &mut Body,
    room: &Room,
    all: &Arc<Semaphore>,
    what: &'static str,
    limit: usize,
) -> Result<Bytes, Failed> {
    let mut received = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let broken = |_| Failed::bad_request("the body ended before its length");
        // A trailer says nothing that anybody asks for.
        let Ok(piece) = frame.map_err(broken)?.into_data() else { continue };
        if received.len() + piece.len() > limit {
            return Err(too_large(what, limit));
        }
        room.take(all, piece.len())?;
        if received.is_empty() && body.is_end_stream() {
            return Ok(piece);
        }
        received.extend_from_slice(&piece);
    }
    Ok(received.freeze())
}

/// Receives a refused body and forgets it, as far as it is not absurdly long: a client that is cut off while it sends does
/// not get to read why.
async fn drain(body: Body) {
    if body.size_hint().lower() <= BODY_BYTES_DRAINED_MAX as u64 {
        let patience = Duration::from_millis(HTTP_BODY_MS_MAX);
        // However it ends, the answer is the same.
        let _ = tokio::time::timeout(patience, forget(body)).await;
    }
}

async fn forget(mut body: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > BODY_BYTES_DRAINED_MAX {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_over_its_bound_is_413_with_and_without_a_declared_length() {
        let all = Arc::new(Semaphore::new(1_000));
        let whole = Body::from(vec![0; 11]);
        let pieces = [vec![0; 6], vec![0; 5]].map(Ok::<_, std::io::Error>);
        let streamed = Body::from_stream(futures::stream::iter(pieces));
        for oversized in [whole, streamed] {
            let failed = body(Request::new(oversized), &all, "it", 10).await.unwrap_err();
            assert_eq!((failed.parts().0, failed.parts().1.code), (413, "too_large"));
        }
        let fits = Body::from(vec![0; 10]);
        assert_eq!(body(Request::new(fits), &all, "it", 10).await.unwrap().len(), 10);
    }

    #[test]
    fn malformed_json_says_where() {
        let failed = parse_json::<Vec<u8>>(b"[1,\n x]").unwrap_err();
        assert_eq!(failed.parts().1.code, "bad_request");
        assert!(
            failed.parts().1.message.contains("line 2 column 2"),
            "{}",
            failed.parts().1.message
        );
    }

    #[tokio::test]
    async fn bodies_have_room_until_their_requests_are_answered_and_the_others_are_busy() {
        let all = Arc::new(Semaphore::new(10));
        let request = |bytes: usize, room: &Room| {
            let pieces = (0..bytes).map(|_| Ok::<_, std::io::Error>(vec![0; 1]));
            let mut request = Request::new(Body::from_stream(futures::stream::iter(pieces)));
            request.extensions_mut().insert(room.clone());
            request
        };
        let (first, second) = (Room::default(), Room::default());
        assert_eq!(body(request(6, &first), &all, "it", 10).await.unwrap().len(), 6);
        let refused = body(request(5, &second), &all, "it", 10).await.unwrap_err();
        assert_eq!((refused.parts().0, refused.parts().1.code), (429, "busy"));
        assert_eq!(all.available_permits(), 4, "what was refused takes no room");
        assert_eq!(body(request(4, &Room::default()), &all, "it", 10).await.unwrap().len(), 4);
        drop(first);
        assert_eq!(all.available_permits(), 10);
    }
}
