//! The endpoint behind a real server (axum) on loopback.

use std::time::Duration;

use crate::support::digital::{TOKEN, agent, body_of, checked, signer};
use axum::Router;
use ringcentral_events::digital::{Message, Messages, SIGNATURE_HEADER, Source, SourceEndpoint};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(30);

async fn serve(endpoint: SourceEndpoint) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/source?tenant=1", listener.local_addr().unwrap());
    let router = Router::new().route_service("/source", endpoint);
    (url, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

fn source() -> Source {
    Source::builder()
        .create(Messages, |new| async move {
            let mut message = Message::new("m-1", agent());
            message.body = Some(new.body.unwrap_or_default().len().to_string());
            Ok(message)
        })
        .build()
        .unwrap()
}

async fn post(http: &reqwest::Client, url: &str, body: String) -> (u16, String) {
    let signature = signer().sign(body.as_bytes());
    let request = http.post(url).header(SIGNATURE_HEADER, signature).body(body);
    let answer = request.timeout(PATIENCE).send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut whole = http::Response::new(answer.bytes().await.unwrap());
    (*whole.status_mut(), *whole.headers_mut()) = (status, headers);
    checked(&whole)
}

#[tokio::test]
async fn axum_serves_a_source_at_a_path_with_a_query() {
    let endpoint = SourceEndpoint::builder(source(), TOKEN).build().unwrap();
    let (url, server) = serve(endpoint).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(post(&http, &url, body_of("implementation.info", None)).await.0, 200);
    assert_eq!(post(&http, &url, body_of("messages.list", None)).await, (400, "unknown action".into()));
    let answer = http.get(&url).timeout(PATIENCE).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()), (405, "POST"));
    server.abort();
}

#[tokio::test]
async fn many_creates_at_once_and_a_body_of_ten_megabytes_among_them() {
    let endpoint = SourceEndpoint::builder(source(), TOKEN).body_limit(12 << 20).build().unwrap();
    let (url, server) = serve(endpoint).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let sizes = (0..64).map(|number| if number == 7 { 10 << 20 } else { number });
    let calls = sizes.map(|size| {
        let (http, url) = (http.clone(), url.clone());
        let body = body_of("messages.create", Some(json!({ "author_id": "a", "body": "x".repeat(size.max(1)) })));
        tokio::spawn(async move { (size.max(1), post(&http, &url, body).await) })
    });
    for call in calls.collect::<Vec<_>>() {
        let (size, (status, body)) = call.await.unwrap();
        assert_eq!(status, 200, "{body}");
        assert!(body.contains(&format!("\"body\":\"{size}\"")), "{size} bytes: {body}");
    }
    server.abort();
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_is_refused_unread() {
    let endpoint = SourceEndpoint::builder(source(), TOKEN).build().unwrap();
    let (url, server) = serve(endpoint).await;
    let address = url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let mut socket = TcpStream::connect(&address).await.unwrap();
    socket.write_all(b"POST /source HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(PATIENCE, socket.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
    server.abort();
}
