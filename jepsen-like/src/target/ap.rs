//! The AP registry of this suite.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use clap::ValueEnum;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Place, System, until_ready};
use crate::ap::Form;
use crate::door::{Door, HttpDoor};
use crate::judge::LOST;
use crate::workload::{REQUEST_TIMEOUT, Workload};

/// Runs `roost-jepsen ap-serve`.
#[derive(Clone, Debug)]
pub struct ApRegistry {
    /// The program: this one.
    pub program: PathBuf,
    /// Which replication.
    pub form: Form,
}

impl ApRegistry {
    fn form_name(&self) -> String {
        self.form.to_possible_value().map_or_else(String::new, |form| form.get_name().to_owned())
    }
}

impl System for ApRegistry {
    fn name(&self) -> String {
        format!("ap-{}", self.form_name())
    }

    fn has_one_port(&self) -> bool {
        true
    }

    fn runs(&self, workload: Workload) -> bool {
        workload == Workload::Registry
    }

    fn unpromised(&self) -> &'static [&'static str] {
        // Two nodes that publish at the same time drop what the other published.
        match self.form {
            Form::Described => &[LOST],
            Form::Careful => &[],
        }
    }

    fn door(&self, node: u8, addr: &str) -> Result<Arc<dyn Door>, String> {
        Ok(Arc::new(HttpDoor::new(node, addr, REQUEST_TIMEOUT)?))
    }

    fn survives_wipe(&self) -> bool {
        true
    }

    fn command(&self, place: &Place) -> Result<Command, String> {
        let mut command = Command::new(&self.program);
        command.args(["ap-serve", "--node", &place.node.to_string()]);
        command.args(["--form", &self.form_name()]);
        command.args(["--listen", &format!("127.0.0.1:{}", place.client)]);
        for peer in place.others.values() {
            command.args(["--peer", peer]);
        }
        Ok(command)
    }

    fn begin<'a>(&'a self, places: &'a [Place]) -> BoxFuture<'a, Result<(), String>> {
        async move {
            for place in places {
                until_ready(place).await?;
            }
            Ok(())
        }
        .boxed()
    }
}
