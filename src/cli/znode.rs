//! The verbs on znodes: ls, get, set, create, rm, stat.

use serde_json::json;

use super::Context;
use super::args::{CreateArgs, GetArgs, LsArgs, RmArgs, SetAclArgs, SetArgs};
use super::output::{Failure, data_line, stat_lines};
use crate::client::model::{Create, Mode};
use crate::client::{Client, ReadOptions};

const READ: ReadOptions = ReadOptions::Linearizable;

pub(super) async fn ls(context: &Context, args: &LsArgs) -> Result<(), Failure> {
    if args.recursive {
        return ls_recursive(context, &args.path).await;
    }
    let children = context.client.children(&args.path, false, false, READ).await?;
    context.output.result(&children, || {
        let names: Vec<&str> = children.children.iter().map(|child| child.name.as_str()).collect();
        let stat = if args.stat { stat_lines(&children.stat) } else { String::new() };
        format!("[{}]\n{stat}", names.join(", ")).into_bytes()
    })
}

/// Prints the subtree, each znode before what is below it, names in order. A child that goes meanwhile is
/// left out.
async fn ls_recursive(context: &Context, root: &str) -> Result<(), Failure> {
    let mut stack = vec![root.to_owned()];
    while let Some(path) = stack.pop() {
        let children = match context.client.children(&path, false, true, READ).await {
            Ok(children) => children,
            Err(error) if error.is("no_node") && path != root => continue,
            Err(error) => return Err(error.into()),
        };
        let line = json!({ "path": path, "stat": children.stat });
        context.output.result(&line, || format!("{path}\n").into_bytes())?;
        stack.extend(children.children.iter().rev().map(|child| join(&path, &child.name)));
    }
    Ok(())
}

fn join(parent: &str, name: &str) -> String {
    format!("{}/{name}", parent.trim_end_matches('/'))
}

pub(super) async fn get(context: &Context, args: &GetArgs) -> Result<(), Failure> {
    let znode = context.client.get(&args.path, READ).await?;
    context.output.result(&znode, || {
        let mut text = data_line(&znode.payload);
        if args.stat {
            text.extend(stat_lines(&znode.stat).into_bytes());
        }
        text
    })
}

pub(super) async fn stat(context: &Context, path: &str) -> Result<(), Failure> {
    let znode = context.client.get(path, READ).await?;
    context.output.result(&znode.stat, || stat_lines(&znode.stat).into_bytes())
}

pub(super) async fn get_acl(context: &Context, path: &str, stat: bool) -> Result<(), Failure> {
    let found = context.client.acl(path, READ).await?;
    context.output.result(&found, || {
        let mut text: String = found.acl.iter().map(|rule| format!("{rule}\n")).collect();
        if stat {
            text += &stat_lines(&found.stat);
        }
        text.into_bytes()
    })
}

pub(super) async fn set_acl(context: &Context, args: &SetAclArgs) -> Result<(), Failure> {
    let changed = context.client.set_acl(&args.path, &args.acl, args.aversion).await?;
    context.output.result(&changed, Vec::new)
}

pub(super) async fn set(context: &Context, args: &SetArgs) -> Result<(), Failure> {
    let data = args.data.clone().into_bytes();
    let changed = context.client.set(&args.path, data, args.data_version).await?;
    context.output.result(&changed, Vec::new)
}

pub(super) async fn rm(context: &Context, args: &RmArgs) -> Result<(), Failure> {
    if args.recursive {
        let removed = remove_subtree(&context.client, &args.path).await?;
        return context.output.result(&json!({ "removed": removed }), Vec::new);
    }
    let done = context.client.delete(&args.path, args.data_version).await?;
    context.output.result(&done, Vec::new)
}

/// Deletes a znode and what is below it, children first, one by one; returns how many went. What another
/// client deletes meanwhile does not matter; what another creates meanwhile makes it fail with `not_empty`.
pub(super) async fn remove_subtree(client: &Client, root: &str) -> Result<u64, Failure> {
    let mut removed = 0;
    // A path is pushed twice: first to list its children, then, when these are gone, to be deleted.
    let mut stack = vec![(root.to_owned(), false)];
    while let Some((path, is_listed)) = stack.pop() {
        let gone = if is_listed {
            client.delete(&path, None).await.map(|_| removed += 1)
        } else {
            client.children(&path, false, false, READ).await.map(|children| {
                stack.push((path.clone(), true));
                stack.extend(
                    children.children.iter().map(|child| (join(&path, &child.name), false)),
                );
            })
        };
        match gone {
            Err(error) if error.is("no_node") && path != root => {}
            other => other?,
        }
    }
    Ok(removed)
}

pub(super) async fn create(context: &mut Context, args: &CreateArgs) -> Result<(), Failure> {
    let mode = match (args.ephemeral, args.container, args.ttl_ms) {
        (true, _, _) => Mode::Ephemeral,
        (_, true, _) => Mode::Container,
        (_, _, Some(_)) => Mode::Ttl,
        _ => Mode::Persistent,
    };
    let wish = Create {
        path: args.path.clone(),
        data: args.data.clone().into_bytes(),
        mode,
        sequential: args.sequential,
        ttl_ms: args.ttl_ms,
        parents: args.parents,
        acl: args.acl.clone(),
    };
    let client = match (mode, &args.session) {
        (Mode::Ephemeral, Some(token)) => context.client.with_session(token),
        (Mode::Ephemeral, None) => {
            let token = context.session().await?.to_owned();
            context.client.with_session(&token)
        }
        _ => context.client.clone(),
    };
    let created = client.create(&wish).await?;
    context.output.result(&created, || format!("Created {}\n", created.path).into_bytes())?;
    if mode == Mode::Ephemeral && args.session.is_none() {
        context.stay().await?;
    }
    Ok(())
}
