-- Accounts and databases of the container's PostgreSQL server; run once by psql, as its superuser.
--
-- nirflow_owner   owns the store: makes its tables and brings them up to date
-- nirflow_worker  a member of nirflow_pipeline: what reductions and the watcher need
-- nirflow_pages   a member of nirflow_reader: the pages of the store
-- prefect         owns the database of the Prefect server
--
-- The passwords are those of the URLs in the secret files. They go through psql's variables, so they are on no
-- command line and in no environment.

\set owner `sed -n 's|^postgresql://nirflow_owner:\([0-9A-Za-z._~-]*\)@.*|\1|p' /run/secrets/owner_url`
\set worker `sed -n 's|^postgresql://nirflow_worker:\([0-9A-Za-z._~-]*\)@.*|\1|p' /run/secrets/pipeline_url`
\set pages `sed -n 's|^postgresql://nirflow_pages:\([0-9A-Za-z._~-]*\)@.*|\1|p' /run/secrets/reader_url`
\set prefect `sed -n 's|^postgresql://prefect:\([0-9A-Za-z._~-]*\)@.*|\1|p' /run/secrets/prefect_url`

SELECT least(length(:'owner'), length(:'worker'), length(:'pages'), length(:'prefect')) >= 12 AS whole \gset
\if :whole
\else
DO $$ BEGIN
    RAISE EXCEPTION 'secrets/owner_url, pipeline_url, reader_url or prefect_url is not as docker-compose.yml says'
    USING HINT = 'Passwords: 12 letters, digits, . _ ~ - or more. Correct it, then: docker compose down --volumes';
END $$;
\endif

-- The statements that follow hold passwords.
SET log_statement = 'none';
SET log_min_error_statement = 'panic';

CREATE ROLE nirflow_owner LOGIN PASSWORD :'owner';
CREATE ROLE nirflow_worker LOGIN PASSWORD :'worker';
CREATE ROLE nirflow_pages LOGIN PASSWORD :'pages';
CREATE ROLE prefect LOGIN PASSWORD :'prefect';
SELECT format('CREATE ROLE %I NOLOGIN', wanted)
FROM unnest(ARRAY['nirflow_pipeline', 'nirflow_reader']) wanted
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) \gexec
GRANT nirflow_pipeline TO nirflow_worker;
GRANT nirflow_reader TO nirflow_pages;

CREATE DATABASE nirflow OWNER nirflow_owner;
REVOKE ALL ON DATABASE nirflow FROM PUBLIC;
GRANT CONNECT ON DATABASE nirflow TO nirflow_pipeline, nirflow_reader;

CREATE DATABASE prefect OWNER prefect;
REVOKE ALL ON DATABASE prefect FROM PUBLIC;
-- A crash of the machine may cost the last moments of the record of runs; it is written twice as fast.
ALTER DATABASE prefect SET synchronous_commit = off;

\connect prefect
CREATE EXTENSION IF NOT EXISTS pg_trgm;
