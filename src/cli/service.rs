//! The verbs on services.

use super::Context;
use super::args::{RegisterArgs, ServiceCommand};
use super::output::{Failure, service_table, table};
use super::parse;
use crate::client::model::Registration;

/// Whose services are meant.
#[derive(Debug, clap::Args)]
pub struct NamespaceArgs {
    /// Services of this namespace; of the default one when left out.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub namespace: String,
}

/// What is said of a provider.
#[derive(Clone, Debug, clap::Args)]
pub struct InstanceArgs {
    /// Where to reach it.
    #[arg(long, value_name = "HOST:PORT", value_parser = parse::host_port)]
    pub addr: (String, u16),
    /// Its id, HOST:PORT when left out.
    #[arg(long)]
    pub id: Option<String>,
    /// Anything that consumers have to know; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::pair)]
    pub meta: Vec<(String, String)>,
    /// Its share of traffic.
    #[arg(long)]
    pub weight: Option<u32>,
}

impl From<&InstanceArgs> for Registration {
    fn from(args: &InstanceArgs) -> Registration {
        let (host, port) = args.addr.clone();
        Registration {
            id: args.id.clone(),
            host,
            port,
            weight: args.weight,
            metadata: args.meta.iter().cloned().collect(),
            ..Registration::default()
        }
    }
}

pub(super) async fn list(context: &Context, of: &NamespaceArgs) -> Result<(), Failure> {
    let services = context.client.in_namespace(&of.namespace).services().await?;
    context.output.result(&services, || {
        let mut rows = vec![["SERVICE", "PROVIDERS", "CONSUMERS"].map(str::to_owned).to_vec()];
        rows.extend(services.services.iter().map(|service| {
            vec![service.name.clone(), service.providers.to_string(), service.consumers.to_string()]
        }));
        table(&rows).into_bytes()
    })
}

pub(super) async fn execute(
    context: &mut Context,
    command: &ServiceCommand,
) -> Result<(), Failure> {
    match command {
        ServiceCommand::Get { name, of } => {
            let service = context.client.in_namespace(&of.namespace).service(name).await?;
            context.output.result(&service, || service_table(&service).into_bytes())
        }
        ServiceCommand::Register(args) => register(context, args).await,
        ServiceCommand::Deregister { name, id, session, force, of } => {
            let client = match (session, context.held_token()) {
                (Some(token), _) => context.client.with_session(token),
                (None, Some(token)) => context.client.with_session(token),
                (None, None) => context.client.clone(),
            };
            let client = client.in_namespace(&of.namespace);
            let done = client.deregister(name, id, *force).await?;
            context.output.result(&done, Vec::new)
        }
    }
}

async fn register(context: &mut Context, args: &RegisterArgs) -> Result<(), Failure> {
    let token = match &args.session {
        Some(token) => token.clone(),
        None => context.session().await?.to_owned(),
    };
    let client = context.client.with_session(&token).in_namespace(&args.of.namespace);
    let registered = client.register(&args.name, &Registration::from(&args.instance)).await?;
    context
        .output
        .result(&registered, || format!("Registered {}\n", registered.path).into_bytes())?;
    if args.session.is_none() {
        context.stay().await?;
    }
    Ok(())
}
