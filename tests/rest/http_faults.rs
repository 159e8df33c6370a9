//! The table of faults over real sockets on loopback, through the built-in client.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use ringcentral_events::http::{HttpClient, ReqwestClient};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;
use url::Url;

use crate::support::http_faults::{Connection, Harness, Listener, Protocol, rows, run};

/// For `localhost`, self-signed, valid until 2126.
const CERTIFICATE: &str = include_str!("../fixtures/tls/localhost.pem");
const KEY: &str = include_str!("../fixtures/tls/localhost.key");

struct Loopback;

#[async_trait]
impl Harness for Loopback {
    fn can(&self, _protocol: Protocol) -> bool {
        true
    }

    fn http(&self, protocol: Protocol) -> Arc<dyn HttpClient> {
        Arc::new(match protocol {
            Protocol::Http1 => ReqwestClient::new(),
            Protocol::Http2 => ReqwestClient::configured(|settings| settings.http2_prior_knowledge()),
            Protocol::Tls => ReqwestClient::configured(|settings| {
                settings.tls_certs_only([reqwest::Certificate::from_pem(CERTIFICATE.as_bytes()).unwrap()])
            }),
        })
    }

    async fn listen(&self, protocol: Protocol) -> (Url, Box<dyn Listener>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        if protocol != Protocol::Tls {
            return (format!("http://127.0.0.1:{port}/").parse().unwrap(), Box::new(Plain(listener)));
        }
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let tls = Tls { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
        (format!("https://localhost:{port}/").parse().unwrap(), Box::new(tls))
    }

    async fn nowhere(&self) -> (Url, Box<dyn Send>) {
        // Bound, and not listening.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}/", socket.local_addr().unwrap()).parse().unwrap();
        (url, Box::new(socket))
    }
}

struct Plain(TcpListener);

#[async_trait]
impl Listener for Plain {
    async fn accept(&mut self) -> Box<dyn Connection> {
        let (stream, _) = self.0.accept().await.unwrap();
        // Each write is sent at once.
        stream.set_nodelay(true).unwrap();
        Box::new(Socket::Plain(stream))
    }
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

#[async_trait]
impl Listener for Tls {
    async fn accept(&mut self) -> Box<dyn Connection> {
        let (stream, _) = self.listener.accept().await.unwrap();
        Box::new(Socket::Tls(Box::new(self.acceptor.accept(stream).await.unwrap())))
    }
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

#[async_trait]
impl Connection for Socket {
    async fn close(mut self: Box<Self>) {
        // It fails if the client was faster.
        let _gone = self.shutdown().await;
        drain(*self).await;
    }

    async fn reset(self: Box<Self>) {
        let stream = match *self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.into_inner().0,
        };
        stream.set_zero_linger().unwrap();
    }

    async fn truncate(self: Box<Self>) {
        let mut stream = match *self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.into_inner().0,
        };
        let _gone = stream.shutdown().await;
        drain(Self::Plain(stream)).await;
    }
}

/// Waits until the client closes: dropping a socket with unread bytes sends a reset.
async fn drain(mut socket: Socket) {
    let mut rest = [0; 1024];
    while matches!(tokio::io::AsyncReadExt::read(&mut socket, &mut rest).await, Ok(1..)) {}
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Plain($stream) => $call,
            Self::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[tokio::test]
async fn every_fault_has_the_kind_ambiguity_and_disposition_of_its_row() {
    let mut wrong = Vec::new();
    for row in rows() {
        wrong.extend(run(&row, &Loopback).await.err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn names_of_rows_are_unique() {
    let mut names: Vec<_> = rows().into_iter().map(|row| row.name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
