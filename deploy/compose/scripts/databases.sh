#!/bin/sh
# Make the roles and databases of Prefect, MLflow and lakeFS, and what reads them. Run as often as you like, as a
# superuser (PGHOST, PGUSER, PGPASSWORD as psql knows them); Postgres' image runs it once, on its first start.
# Passwords: PREFECT_DATABASE, MLFLOW_DATABASE, LAKEFS_DATABASE, BACKUP_DATABASE; GRAFANA_DATABASE if Grafana reads.
set -eu

sql() { psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 "$@"; }

role() { # NAME VARIABLE: psql reads the password itself, so that it is in no list of processes
  sql --dbname postgres --set name="$1" <<SQL
\getenv password $2
select format('create role %I login', :'name') where not exists (select from pg_roles where rolname = :'name') \gexec
alter role :"name" with login password :'password';
SQL
}

for name in prefect mlflow lakefs; do
  role "$name" "$(echo "$name" | tr a-z A-Z)_DATABASE"
  sql --dbname postgres --set name="$name" <<'SQL'
select format('grant %I to current_user', :'name') where not pg_has_role(:'name', 'member') \gexec
select format('create database %I owner %I', :'name', :'name')
  where not exists (select from pg_database where datname = :'name') \gexec
revoke connect, temporary on database :"name" from public;
SQL
done
sql --dbname prefect --command 'create extension if not exists pg_trgm'

role backup BACKUP_DATABASE
sql --dbname postgres <<'SQL'
grant pg_read_all_data to backup;
grant connect on database prefect, mlflow, lakefs to backup;
SQL

[ -n "${GRAFANA_DATABASE:-}" ] || exit 0
role grafana GRAFANA_DATABASE
# Prefect's tables hold more than a dashboard may see. Functions are resolved when they are called, so that Prefect may
# make its tables after this.
sql --dbname prefect <<'SQL'
grant connect on database prefect to grafana;
create schema if not exists watch authorization prefect;
set role prefect;
create or replace function watch.runs(since timestamptz, until timestamptz)
returns table (started timestamptz, flow text, run text, state text, seconds double precision)
language plpgsql stable security definer set search_path = pg_catalog, public as $$
begin
  return query
  select r.start_time, f.name::text, r.name::text, r.state_type::text,
         extract(epoch from coalesce(r.end_time, now()) - r.start_time)::double precision
  from public.flow_run r join public.flow f on f.id = r.flow_id
  where r.start_time between since and until;
end $$;
create or replace function watch.steps(since timestamptz, until timestamptz)
returns table (started timestamptz, flow text, run text, step text, state text, attempts bigint,
               seconds double precision)
language plpgsql stable security definer set search_path = pg_catalog, public as $$
begin
  return query
  select t.start_time, f.name::text, r.name::text, t.name::text, t.state_type::text, t.run_count::bigint,
         extract(epoch from coalesce(t.end_time, now()) - t.start_time)::double precision
  from public.task_run t join public.flow_run r on r.id = t.flow_run_id join public.flow f on f.id = r.flow_id
  where t.start_time between since and until;
end $$;
revoke all on all functions in schema watch from public;
grant usage on schema watch to grafana;
grant execute on all functions in schema watch to grafana;
SQL
