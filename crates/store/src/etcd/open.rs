//! Opening a prefix of an etcd that may be empty, ours, somebody else's or a newer version's.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp};
use tokio::time::Instant;

use super::config::EtcdConfig;
use super::layout::{Format, Layout, end_of};
use super::members::{Kind, Members};
use crate::{OpenError, StoreError};

/// How long a start waits for an etcd that does not answer: it may be starting, too.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(250);
/// What the values of a stock kube-apiserver begin with.
const PROTOBUF: &[u8] = b"k8s\0";

/// Reads what the prefix is, and makes it ours when there is nothing. `offset` is that of a new one.
pub(super) async fn open(
    config: &EtcdConfig,
    members: &Members,
    layout: &Layout,
    offset: i64,
) -> Result<Format, OpenError> {
    open_or_make(config, members, layout, Some(offset)).await
}

/// Reads what the prefix is, which must be ours.
pub(super) async fn open_existing(
    config: &EtcdConfig,
    members: &Members,
    layout: &Layout,
) -> Result<Format, OpenError> {
    open_or_make(config, members, layout, None).await
}

async fn open_or_make(
    config: &EtcdConfig,
    members: &Members,
    layout: &Layout,
    offset: Option<i64>,
) -> Result<Format, OpenError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match find_or_make(config, members, layout, offset).await {
            Ok(Some(format)) => return Ok(format),
            // Somebody else made it just now.
            Ok(None) => {}
            Err(OpenError::Etcd { .. }) if Instant::now() + PAUSE < until => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn find_or_make(
    config: &EtcdConfig,
    members: &Members,
    layout: &Layout,
    offset: Option<i64>,
) -> Result<Option<Format>, OpenError> {
    let failed = |error: StoreError| OpenError::Etcd {
        endpoints: config.endpoints.join(","),
        detail: error.to_string(),
    };
    if let Some(format) = read(members, layout).await.map_err(failed)? {
        return format.map(Some).map_err(|newer| match newer {
            Some(found) => OpenError::NewerPrefix {
                prefix: config.prefix.clone(),
                found,
                known: Format::known(),
            },
            None => OpenError::DamagedPrefix {
                prefix: config.prefix.clone(),
                key: layout.format(),
            },
        });
    }
    let (first, _) = first_key(members, layout).await.map_err(failed)?;
    if let Some((key, protobuf)) = first {
        if key == layout.format() {
            return Ok(None);
        }
        return Err(OpenError::ForeignPrefix {
            prefix: config.prefix.clone(),
            key,
            whose: if protobuf {
                "a stock kube-apiserver's, in protobuf"
            } else {
                "another program's"
            },
        });
    }
    let Some(offset) = offset else {
        return Err(OpenError::EmptyPrefix {
            prefix: config.prefix.clone(),
        });
    };
    let format = Format::new(offset);
    let made = make(members, layout, &format).await.map_err(failed)?;
    Ok(made.then_some(format))
}

/// Refuses a prefix that holds anything; gives etcd's revision.
pub(super) async fn require_empty(
    config: &EtcdConfig,
    members: &Members,
    layout: &Layout,
) -> Result<i64, OpenError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match first_key(members, layout).await {
            Ok((Some((key, _)), _)) => {
                return Err(OpenError::PrefixInUse {
                    prefix: config.prefix.clone(),
                    key,
                });
            }
            Ok((None, revision)) => return Ok(revision),
            Err(_) if Instant::now() + PAUSE < until => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                return Err(OpenError::Etcd {
                    endpoints: config.endpoints.join(","),
                    detail: error.to_string(),
                });
            }
        }
    }
}

/// What the prefix says of itself; none when it says nothing.
pub(super) async fn read(
    members: &Members,
    layout: &Layout,
) -> Result<Option<Result<Format, Option<i64>>>, StoreError> {
    let key = layout.format();
    let got = members
        .call(Kind::Read, |mut member| {
            let key = key.clone();
            async move { member.kv.get(key, None).await }
        })
        .await
        .map_err(super::failure::Failure::into_error)?;
    Ok(got.kvs().first().map(|kv| Format::decode(kv.value())))
}

/// The first key below the prefix, and whether its value is a stock server's; and etcd's revision.
async fn first_key(
    members: &Members,
    layout: &Layout,
) -> Result<(Option<(String, bool)>, i64), StoreError> {
    let all = layout.all();
    let got = members
        .call(Kind::Read, |mut member| {
            let options = GetOptions::new()
                .with_range(end_of(all.as_bytes()))
                .with_limit(1);
            let all = all.clone();
            async move { member.kv.get(all, Some(options)).await }
        })
        .await
        .map_err(super::failure::Failure::into_error)?;
    let first = got.kvs().first().map(|kv| {
        let key = String::from_utf8_lossy(kv.key()).into_owned();
        (key, kv.value().starts_with(PROTOBUF))
    });
    let revision = got
        .header()
        .map_or(0, etcd_client::ResponseHeader::revision);
    Ok((first, revision))
}

async fn make(members: &Members, layout: &Layout, format: &Format) -> Result<bool, StoreError> {
    let answer = members
        .call(Kind::Write, |mut member| {
            let absent = Compare::mod_revision(layout.format(), CompareOp::Equal, 0);
            let puts = [
                TxnOp::put(layout.format(), format.encode(), None),
                TxnOp::put(layout.head(), Vec::new(), None),
            ];
            let txn = Txn::new().when([absent]).and_then(puts);
            async move { member.kv.txn(txn).await }
        })
        .await
        .map_err(super::failure::Failure::into_error)?;
    Ok(answer.succeeded())
}
