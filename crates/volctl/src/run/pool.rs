//! `volctl pool …`

use vol_api::{CreatePool, ExtendPool, GiveUpPool, PoolInfo, RepairPool, SetPool};

use super::change::{Question, line, plan_of};
use super::{Run, Session, life, repair, usage};
use crate::cli::Pool;
use crate::render::{place_text, pool_facts, pool_table};
use crate::{Failure, exit};

fn name(pool: &PoolInfo) -> String {
    format!("{}/{}", pool.vg, pool.name)
}

fn count_of(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

pub async fn run(command: Pool, session: &mut Session<'_>) -> Run {
    let format = session.format;
    match command {
        Pool::Create { pool, size, chunk_size, policy, place, change } => {
            let (on, not_on, on_labels) = life::which(&place.which)?;
            let request = CreatePool {
                vg: pool.vg.to_string(),
                name: pool.pool.to_string(),
                size: size.0,
                chunk_size: chunk_size.map(|size| size.0),
                overcommit_limit_percent: policy.overcommit_limit,
                grow_to: policy.grow_to.map(|text| text.0),
                reserve_percent: policy.reserve,
                when_full: policy.when_full.map(|word| word.as_str().to_owned()),
                on,
                not_on,
                on_labels,
                contiguous: place.contiguous,
            };
            let changed = session.client.create_pool(&request, change.dry_run).await?;
            session.report(&changed, pool.to_string(), |outcome| {
                let size =
                    outcome.object.as_ref().map_or(String::new(), |pool| format!(": {}", format.size(pool.size_bytes)));
                line(
                    &format!("pool {pool}"),
                    outcome.changed,
                    &format!("created{size}"),
                    &format!("already exists as asked for{size}"),
                    &format!("Make a volume: volctl volume create {}/VOLUME --pool {} --size 10G", pool.vg, pool.pool),
                )
            })
        }
        Pool::List(within) => {
            let list = session.client.pools(within.vg.as_ref()).await?;
            let table = pool_table(&list.pools, format);
            let empty = "No pools: volctl pool create VG/POOL --size 80%FREE makes one.";
            session.list(&list, list.pools.iter().map(name), &table, empty)
        }
        Pool::Show { pool } => {
            let pool = session.client.pool(&pool).await?;
            session.show(&pool, name(&pool), &pool_facts(&pool, format))
        }
        Pool::Usage { pool } => usage::pool(&pool, session).await,
        Pool::Extend { pool, size, metadata, place, change } => {
            let (on, not_on, on_labels) = life::which(&place.which)?;
            let request = ExtendPool {
                size: size.map(|size| size.0),
                metadata: metadata.map(|size| size.0),
                on,
                not_on,
                on_labels,
                contiguous: place.contiguous,
            };
            let changed = session.client.extend_pool(&pool, &request, change.dry_run).await?;
            session.report(&changed, pool.to_string(), |outcome| {
                let size = outcome.object.as_ref().map_or(String::new(), |pool| {
                    format!(
                        ": {} of data, {} of metadata",
                        format.size(pool.size_bytes),
                        format.size(pool.metadata_size_bytes)
                    )
                });
                line(
                    &format!("pool {pool}"),
                    outcome.changed,
                    &format!("extended{size}"),
                    &format!("has that much already{size}"),
                    "",
                )
            })
        }
        Pool::Set { pool, policy, place, change } => {
            let (on, not_on, on_labels) = life::which(&place.which)?;
            let request = SetPool {
                on,
                not_on,
                on_labels,
                anywhere: place.anywhere,
                grow_to: policy.grow_to.map(|text| text.0),
                reserve_percent: policy.reserve,
                when_full: policy.when_full.map(|word| word.as_str().to_owned()),
                overcommit_limit_percent: policy.overcommit_limit,
            };
            if request == SetPool::default() {
                return Err(Failure::new(
                    exit::USAGE,
                    format!("what to change about pool {pool} is not said"),
                    Some(
                        "give --grow-to, --reserve, --when-full, --overcommit-limit, or --on, --not-on, --on-label, --anywhere",
                    ),
                ));
            }
            let placed = request.anywhere
                || !(request.on.is_empty() && request.not_on.is_empty() && request.on_labels.is_empty());
            let changed = session.client.set_pool(&pool, &request, change.dry_run).await?;
            session.report(&changed, pool.to_string(), |outcome| {
                let grows = outcome.object.as_ref().filter(|_| outcome.changed && placed);
                let next = grows.map_or(String::new(), |pool| {
                    format!("It grows on {} from now on; what it has stays where it is", place_text(pool))
                });
                line(&format!("pool {pool}"), outcome.changed, "changed", "is set so already", &next)
            })
        }
        Pool::Check { pool, online } => repair::check(&pool, online, session).await,
        Pool::Repair { pool, accept_loss, discard_original, change } => {
            repair::repair(&pool, RepairPool { accept_loss, discard_original }, &change, session).await
        }
        Pool::Purge { pool, change } => {
            if !change.yes && !change.dry_run {
                let count = session.client.pool(&pool).await?.deleted_count;
                let what = count_of(count, "deleted volume or snapshot", "deleted volumes and snapshots");
                session.confirm(None, &Question::YesNo(format!("Delete {what} of pool {pool} for good?")))?;
            }
            let changed = session.client.purge_pool(&pool, change.dry_run).await?;
            session.report(&changed, pool.to_string(), |outcome| {
                let purged = outcome.object.as_ref().map_or(0, |purged| purged.purged_count);
                let done = format!("{purged} deleted for good");
                line(&format!("pool {pool}"), outcome.changed, &done, "held nothing that was deleted", "")
            })
        }
        Pool::Delete { pool, lost: true, force, change } => {
            let request = GiveUpPool { force };
            if !change.yes && !change.dry_run {
                let plan = plan_of(session.client.give_up_pool(&pool, &request, true).await?);
                let what = format!("Give up pool {pool} with everything in it?");
                session.confirm(plan.as_ref(), &Question::TypeName { what, name: pool.to_string() })?;
            }
            let changed = session.client.give_up_pool(&pool, &request, change.dry_run).await?;
            session.report(&changed, pool.to_string(), |outcome| {
                line(&format!("pool {pool}"), outcome.changed, "given up", "was already given up", "")
            })
        }
        Pool::Delete { pool, lost: false, force: _, change } => {
            if !change.yes && !change.dry_run {
                let plan = plan_of(session.client.delete_pool(&pool, true).await?);
                let question = Question::TypeName { what: format!("Delete pool {pool}?"), name: pool.to_string() };
                session.confirm(plan.as_ref(), &question)?;
            }
            let changed = session.client.delete_pool(&pool, change.dry_run).await?;
            session.report(&changed, pool.to_string(), |outcome| {
                line(&format!("pool {pool}"), outcome.changed, "deleted", "was already deleted", "")
            })
        }
    }
}
