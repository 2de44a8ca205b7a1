//! The floors: a proxy that forwards bytes, and one that reads the documents on their way and writes them anew, as a gateway
//! does that is not careful. No token, no choice, no budget, no log: what a real gateway needs comes on top.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, Uri,
    body::Incoming,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

use crate::Body;

#[derive(Clone)]
pub struct Proxy {
    upstream: SocketAddr,
    client: Client<HttpConnector, Body>,
}

impl Proxy {
    pub fn new(upstream: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { upstream, client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// Bytes in, bytes out.
    pub async fn forward(self, request: Request<Incoming>) -> Result<Response<Body>> {
        let request = self.readdress(request)?.map(boxed);
        Ok(self.client.request(request).await?.map(boxed))
    }

    /// Parses the request, sets its model, writes it; the same with a whole answer. Streams pass as they are.
    pub async fn rewrite(self, request: Request<Incoming>) -> Result<Response<Body>> {
        let (mut head, body) = self.readdress(request)?.into_parts();
        let body = with_model(&body.collect().await?.to_bytes(), "gpt-4o-mini")?;
        head.headers.insert(CONTENT_LENGTH, body.len().into());
        let answer = self.client.request(Request::from_parts(head, full(body))).await?;
        let is_document = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        if !is_document {
            return Ok(answer.map(boxed));
        }
        let (mut head, body) = answer.into_parts();
        let body = with_model(&body.collect().await?.to_bytes(), "bench")?;
        head.headers.insert(CONTENT_LENGTH, body.len().into());
        Ok(Response::from_parts(head, full(body)))
    }

    fn readdress(&self, mut request: Request<Incoming>) -> Result<Request<Incoming>> {
        let path = request.uri().path_and_query().context("a request without a path")?.clone();
        let uri = Uri::builder().scheme("http").authority(self.upstream.to_string()).path_and_query(path).build()?;
        *request.uri_mut() = uri;
        // The client writes the one of the provider.
        request.headers_mut().remove(HOST);
        Ok(request)
    }
}

fn with_model(document: &[u8], model: &str) -> Result<Vec<u8>> {
    let mut document: Value = serde_json::from_slice(document).context("a body that is no JSON")?;
    document.as_object_mut().context("a body that is no object")?.insert("model".into(), model.into());
    Ok(serde_json::to_vec(&document)?)
}

fn boxed(body: Incoming) -> Body {
    body.map_err(anyhow::Error::from).boxed_unsync()
}

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never: std::convert::Infallible| match never {}).boxed_unsync()
}
