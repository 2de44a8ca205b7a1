//! Names with scripted answers, and public addresses that lead to servers on loopback.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use agentos_types::{Code, Result};
use async_trait::async_trait;
use tokio::{net::TcpStream, sync::Notify};

use crate::{CheckedUrl, Dialer, DialerOptions, Method, Request, Resolve, Response, reach::Connect};

pub(super) const PUBLIC: &str = "93.184.216.34";
pub(super) const PUBLIC_TOO: &str = "93.184.216.35";

/// Each question takes the next answer of its name; the last one stays.
#[derive(Default)]
pub(super) struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(host.to_owned());
        let mut answers = self.answers.lock().unwrap();
        let left = answers.get_mut(host).ok_or_else(|| io::Error::other("no such name"))?;
        Ok(if left.len() > 1 { left.remove(0) } else { left[0].clone() })
    }
}

/// What an address leads to.
#[derive(Clone, Copy)]
enum Route {
    Server(SocketAddr),
    /// Packets vanish.
    BlackHole,
}

#[derive(Default)]
pub(super) struct Routes {
    routes: Mutex<HashMap<IpAddr, Route>>,
    dialed: Mutex<Vec<SocketAddr>>,
    pub(super) swallowed: Notify,
}

#[async_trait]
impl Connect for Routes {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.dialed.lock().unwrap().push(address);
        let route = self.routes.lock().unwrap().get(&address.ip()).copied();
        match route {
            Some(Route::Server(server)) => TcpStream::connect(server).await,
            Some(Route::BlackHole) => {
                self.swallowed.notify_one();
                std::future::pending().await
            }
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

#[derive(Clone)]
pub(super) struct Stage {
    pub(super) dialer: Dialer,
    names: Arc<Names>,
    pub(super) routes: Arc<Routes>,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self::with(DialerOptions::default())
    }

    pub(super) fn with(options: DialerOptions) -> Self {
        let (names, routes) = (Arc::new(Names::default()), Arc::new(Routes::default()));
        let dialer = Dialer::with_parts(options, names.clone(), routes.clone()).unwrap();
        Self { dialer, names, routes }
    }

    /// The name's answers in order of the questions; the addresses of one answer stand in one text.
    pub(super) fn name(self, name: &str, answers: &[&str]) -> Self {
        let parse = |answer: &&str| answer.split_whitespace().map(|ip| ip.parse().unwrap()).collect();
        self.names.answers.lock().unwrap().insert(name.to_owned(), answers.iter().map(parse).collect());
        self
    }

    pub(super) fn route(self, address: &str, server: SocketAddr) -> Self {
        self.routes.routes.lock().unwrap().insert(address.parse().unwrap(), Route::Server(server));
        self
    }

    pub(super) fn black_hole(self, address: &str) -> Self {
        self.routes.routes.lock().unwrap().insert(address.parse().unwrap(), Route::BlackHole);
        self
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.names.asked.lock().unwrap().clone()
    }

    pub(super) fn dialed(&self) -> Vec<String> {
        self.routes.dialed.lock().unwrap().iter().map(SocketAddr::to_string).collect()
    }

    pub(super) async fn send(&self, request: Request) -> Result<Response> {
        self.dialer.send(request, &|_| true).await
    }

    /// GET, and the body or the code of the refusal.
    pub(super) async fn get(&self, url: &str) -> Result<String, Code> {
        match self.send(get(url)).await {
            Ok(response) => Ok(String::from_utf8(response.body).unwrap()),
            Err(fault) => Err(fault.code),
        }
    }
}

pub(super) fn get(url: &str) -> Request {
    Request::new(Method::Get, CheckedUrl::parse(url).unwrap())
}
