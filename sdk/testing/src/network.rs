use std::time::Duration;

use witlet_sdk::Result;
use witlet_sdk::probe::{Connection, GrpcReply, GrpcRequest, HttpReply, HttpRequest, PodNet};

use crate::Script;

/// Network access to a pod that answers by script.
#[derive(Debug, Default)]
pub struct FakePodNet {
    pub http: Script<HttpRequest, HttpReply>,
    /// Host and port; the answers are connections.
    pub tcp: Script<(Option<String>, u16), FakeConnection>,
    pub grpc: Script<GrpcRequest, GrpcReply>,
}

/// Gives what it is scripted to read, and keeps what is written.
#[derive(Debug, Default)]
pub struct FakeConnection {
    pub read: Script<u32, Vec<u8>>,
    pub written: std::cell::RefCell<Vec<u8>>,
}

impl PodNet for FakePodNet {
    type Connection = FakeConnection;

    fn http_get(&self, request: &HttpRequest) -> Result<HttpReply> {
        self.http.ask(request.clone())
    }

    fn tcp_connect(&self, host: Option<&str>, port: u16, _: Duration) -> Result<FakeConnection> {
        self.tcp.ask((host.map(str::to_owned), port))
    }

    fn grpc_unary(&self, request: &GrpcRequest) -> Result<GrpcReply> {
        self.grpc.ask(request.clone())
    }
}

impl Connection for FakeConnection {
    fn write(&self, data: &[u8], _: Duration) -> Result<()> {
        self.written.borrow_mut().extend_from_slice(data);
        Ok(())
    }

    fn read(&self, max: u32, _: Duration) -> Result<Vec<u8>> {
        self.read.ask(max)
    }
}
