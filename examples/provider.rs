//! A provider: an HTTP server that registers itself, says when it is in trouble, and leaves in good order.
//!
//! ```sh
//! cargo run --example provider -- web 127.0.0.1:9001
//! ```
//!
//! A call that says for which incarnation it is meant (`Roost-Incarnation`) is refused with 421 when that is another process
//! that had this address. The registry is at `ROOST_ENDPOINTS`, or where `roost dev` has it. With a directory in `ROOST_STATE` the
//! session is noted there, and the next run takes the registration of one that crashed over. Ends on SIGINT or SIGTERM, and
//! with exit code 1 when it cannot register within 10 s: a provider that nobody can find is of no use.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use roost::client::model::Registration;
use roost::sdk::{
    Incarnations, Registrar, RegistrarOptions, Registry, Service, SessionStore, ShutdownOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, name, addr] = args.as_slice() else {
        return Err("usage: provider SERVICE HOST:PORT".into());
    };
    let seeds = std::env::var("ROOST_ENDPOINTS")
        .unwrap_or_else(|_| "127.0.0.1:8081,127.0.0.1:8082".to_owned());
    let seeds: Vec<String> = seeds.split(',').map(str::to_owned).collect();

    let state = std::env::var_os("ROOST_STATE").map(PathBuf::from);
    let sessions =
        state.map_or_else(|| Ok(SessionStore::default()), |dir| SessionStore::open(&dir))?;
    // First it listens, then it says so.
    let listener = TcpListener::bind(addr).await?;
    let local = listener.local_addr()?;
    let registration = Registration {
        host: local.ip().to_string(),
        port: local.port(),
        ..Registration::default()
    };
    let registrar = Registrar::start(
        &[Registry::new("main", &seeds)?],
        vec![Service { name: name.clone(), registration }],
        &RegistrarOptions {
            ttl: Duration::from_secs(5),
            exit_if_cannot_register: Some(Duration::from_secs(10)),
            sessions,
        },
    );
    let serving = tokio::spawn(serve(
        listener,
        Own {
            name: local.to_string(),
            service: name.clone(),
            incarnations: registrar.incarnations(),
        },
    ));
    let mut states = registrar.states();
    let alarms = tokio::spawn(async move {
        while states.changed().await.is_ok() {
            println!("provider: {:?}", *states.borrow_and_update());
        }
    });

    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Consumers are told, the calls on their way are answered, and only then does it stop.
    for left in registrar.shutdown(ShutdownOptions::default()).await {
        println!("provider: left {left:?}");
    }
    serving.abort();
    alarms.abort();
    Ok(())
}

/// Who this provider is.
#[derive(Clone)]
struct Own {
    name: String,
    service: String,
    incarnations: Incarnations,
}

async fn serve(listener: TcpListener, own: Own) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, own.clone()));
        }
    }
}

/// Answers one request with the name of this provider, unless it is meant for another that had this address.
async fn answer(mut stream: TcpStream, own: Own) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") && request.len() < 8192 {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..count]);
    }
    let request = String::from_utf8_lossy(&request).to_ascii_lowercase();
    let meant = request.lines().find_map(|line| line.strip_prefix("roost-incarnation:"));
    let meant = meant.and_then(|value| value.trim().parse().ok());
    let is_foreign = meant.is_some_and(|meant| own.incarnations.refuses(&own.service, meant));
    let (status, name) = match is_foreign {
        true => ("421 Misdirected Request", "meant for another"),
        false => ("200 OK", own.name.as_str()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nConnection: close\r\n");
    let answer = format!("{head}Content-Length: {}\r\n\r\n{name}\n", name.len() + 1);
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
