//! A proxy with a login (https CONNECT), a private certificate authority, and an HTTP stack of the user's around the
//! built-in one: for REST and for the WebSocket alike.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ringcentral_events::http::{HttpClient, HttpError, HttpRequest, HttpResponse, ReqwestClient};
use ringcentral_events::rest::Method;
use ringcentral_events::transport::WebSocket;
use ringcentral_events::{Client, Error, ErrorKind, OAuth, System};
use ringcentral_sandbox::Sandbox;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::subscribing::*;

const AUTHORITY: &str = include_str!("../fixtures/tls/private-ca.pem");
const CERTIFICATE: &str = include_str!("../fixtures/tls/private.pem");
const KEY: &str = include_str!("../fixtures/tls/private.key");

const PLATFORM: &str = "platform.rc.test";
const GATEWAY: &str = "gateway.rc.test";
/// `user:secret`.
const LOGIN: &str = "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=";

/// A proxy on loopback. It knows the two hosts only, and answers their TLS in front of the sandbox.
struct Proxy {
    url: String,
    /// The request, with its answer.
    asked: Arc<Mutex<Vec<(String, u16)>>>,
    _task: JoinSet<()>,
}

impl Proxy {
    async fn start(sandbox: &Sandbox) -> Self {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let address = |url: &str| url.parse::<url::Url>().unwrap().socket_addrs(|| None).unwrap()[0];
        let hosts = [(PLATFORM, address(sandbox.base_url())), (GATEWAY, address(sandbox.gateway_url()))];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<_>>> = Arc::default();
        let mut task = JoinSet::new();
        let log = asked.clone();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (acceptor, log) = (acceptor.clone(), log.clone());
                connections.spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    let head = String::from_utf8(head).unwrap();
                    let wanted = head.strip_prefix("CONNECT ").and_then(|it| it.split(' ').next()).unwrap_or_default();
                    let to = hosts.iter().find(|(host, _)| wanted == format!("{host}:443")).map(|(_, to)| *to);
                    let has_login = head.lines().any(|line| line.eq_ignore_ascii_case(LOGIN));
                    let status = if !has_login {
                        407
                    } else if to.is_some() {
                        200
                    } else {
                        403
                    };
                    log.lock().unwrap().push((wanted.to_owned(), status));
                    let answer = format!(
                        "HTTP/1.1 {status} x\r\n{}\r\n",
                        if status == 200 { "" } else { "Content-Length: 0\r\n" }
                    );
                    if stream.write_all(answer.as_bytes()).await.is_err() || status != 200 {
                        return;
                    }
                    // A client that does not trust the certificate ends here.
                    let Ok(mut inside) = acceptor.accept(stream).await else { return };
                    let mut outside = TcpStream::connect(to.unwrap()).await.unwrap();
                    let _ended = copy_bidirectional(&mut inside, &mut outside).await;
                });
            }
        });
        Self { url, asked, _task: task }
    }

    fn asked_for(&self, host: &str, status: u16) -> bool {
        self.asked.lock().unwrap().contains(&(format!("{host}:443"), status))
    }

    fn http(&self, login: bool, trusts: bool) -> ReqwestClient {
        let url = self.url.clone();
        ReqwestClient::configured(move |settings| {
            let mut proxy = reqwest::Proxy::https(&url).unwrap();
            if login {
                proxy = proxy.basic_auth("user", "secret");
            }
            let settings = settings.proxy(proxy);
            let authority = reqwest::Certificate::from_pem(AUTHORITY.as_bytes()).unwrap();
            if trusts { settings.tls_certs_merge([authority]) } else { settings }
        })
    }
}

/// The user's own stack: it passes requests to the built-in one, and has the gateway's public address in answers.
#[derive(Debug)]
struct Own {
    inner: ReqwestClient,
    gateway_url: String,
    hosts: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl HttpClient for Own {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.hosts.lock().unwrap().push(request.url().host_str().unwrap().to_owned());
        let names_gateway = request.url().path().ends_with("/wstoken");
        let response = self.inner.send(request).await?;
        if !names_gateway {
            return Ok(response);
        }
        let (status, mut headers, mut body) = response.into_parts();
        let mut text = Vec::new();
        while let Some(chunk) = body.chunk().await? {
            text.extend_from_slice(&chunk);
        }
        let text = String::from_utf8(text).unwrap().replace(&self.gateway_url, &format!("wss://{GATEWAY}/ws"));
        headers.remove("content-length");
        Ok(HttpResponse::whole(status, headers, text))
    }
}

fn client_over(sandbox: &Sandbox, http: impl HttpClient, server: &str) -> Client {
    let oauth = OAuth::jwt(sandbox.client_id(), sandbox.jwt()).client_secret(sandbox.client_secret());
    let system = System::new().with_http(http);
    Client::builder(oauth.server(server).system(system).repeat_pause(ms(10)).build().unwrap()).build().unwrap()
}

#[tokio::test]
async fn rest_and_the_websocket_use_the_proxy_the_private_authority_and_the_own_stack() {
    let sandbox = quick().start().await.unwrap();
    let proxy = Proxy::start(&sandbox).await;
    let hosts: Arc<Mutex<Vec<String>>> = Arc::default();
    let gateway_url = sandbox.gateway_url().to_owned();
    let own = Own { inner: proxy.http(true, true), gateway_url, hosts: hosts.clone() };
    let client = client_over(&sandbox, own, &format!("https://{PLATFORM}"));
    let mut subscription = start(subscribe(&client, WebSocket::builder().build().unwrap())).await;
    publish(&sandbox, 1..=5);
    Journal::upto(&mut subscription, 5).await.assert_only(1..=5);
    assert!(proxy.asked_for(PLATFORM, 200) && proxy.asked_for(GATEWAY, 200), "{:?}", proxy.asked.lock().unwrap());
    let hosts = hosts.lock().unwrap().clone();
    assert!(hosts.iter().any(|host| host == GATEWAY), "{hosts:?}");
    assert!(hosts.iter().all(|host| [PLATFORM, GATEWAY].contains(&host.as_str())), "{hosts:?}");
    assert!(soon(subscription.close()).await.deleted);
}

/// The error and its causes as text.
fn chain(error: &Error) -> String {
    let source = std::error::Error::source(error);
    let causes = std::iter::successors(source, |it| it.source()).map(ToString::to_string);
    std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}

#[tokio::test]
async fn a_proxy_or_authority_that_refuses_is_an_error_that_names_the_host_and_nothing_was_sent() {
    let sandbox = quick().start().await.unwrap();
    let proxy = Proxy::start(&sandbox).await;
    for (host, login, trusts, status) in
        [(PLATFORM, true, false, 200), (PLATFORM, false, true, 407), ("other.rc.test", true, true, 403)]
    {
        let client = client_over(&sandbox, proxy.http(login, trusts), &format!("https://{host}"));
        let request = client.request(Method::GET, "/restapi/v1.0/account/~").deadline(ms(2000));
        let error = soon(request.send()).await.unwrap_err();
        assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::Network, false), "{host}: {error:?}");
        assert!(error.to_string().contains(host), "{error}");
        for text in [chain(&error), format!("{error:?}")] {
            assert!(!text.contains("secret") && !text.contains("dXNlcjpz"), "{text}");
        }
        assert!(proxy.asked_for(host, status), "{:?}", proxy.asked.lock().unwrap());
    }
    assert!(sandbox.requests().is_empty());
}
