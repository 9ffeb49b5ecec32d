"""The tables of operations: which flow stands behind which method. Here and nowhere else."""

from __future__ import annotations

from meshyard.flows import access, checkpoints, code, datasets, fleet, follow, follow_logs, jobs, webhooks
from meshyard.operations import Driver, Resource, iteration, operation


class Jobs(Resource[Driver]):
    """`client.jobs`."""

    submit = operation(jobs.submit)
    validate = operation(jobs.validate)
    get = operation(jobs.get_job)
    list = iteration(jobs.list_jobs)
    update = operation(jobs.update)
    delete = operation(jobs.delete)
    cancel = operation(jobs.cancel)
    pause = operation(jobs.pause)
    resume = operation(jobs.resume)
    checkpoint = operation(jobs.checkpoint)
    profile = operation(jobs.profile)
    retry = operation(jobs.retry)
    clone = operation(jobs.clone)
    extend = operation(jobs.extend)
    wait = operation(jobs.wait)
    watch = iteration(follow.watch)
    events = iteration(jobs.events)
    attempts = operation(jobs.attempts)
    place = operation(jobs.place)
    metrics = operation(jobs.metrics)
    logs = operation(jobs.logs)
    follow_logs = iteration(follow_logs.follow_logs)
    program = operation(jobs.program)
    result = operation(jobs.result)


class Checkpoints(Resource[Driver]):
    """`client.checkpoints`."""

    list = operation(checkpoints.list_checkpoints)
    find = operation(checkpoints.find)
    files = operation(checkpoints.files)
    pin = operation(checkpoints.pin)
    expire = operation(checkpoints.expire)
    download = operation(checkpoints.download)
    download_archive = operation(checkpoints.download_archive)


class Artifacts(Resource[Driver]):
    """`client.artifacts`."""

    list = operation(checkpoints.list_artifacts)
    download = operation(checkpoints.download_artifact)


class Code(Resource[Driver]):
    """`client.code`."""

    upload = operation(code.upload)
    get = operation(code.get_code)
    list = iteration(code.list_code)
    download = operation(code.download)


class Datasets(Resource[Driver]):
    """`client.datasets`."""

    upload = operation(datasets.upload)
    get = operation(datasets.get_dataset)
    list = iteration(datasets.list_datasets)
    download = operation(datasets.download)


class Workers(Resource[Driver]):
    """`client.workers`."""

    list = operation(fleet.list_workers)
    drain = operation(fleet.drain)


class Webhooks(Resource[Driver]):
    """`client.webhooks`."""

    add = operation(webhooks.add)
    list = iteration(webhooks.list_webhooks)
    get = operation(webhooks.get_webhook)
    update = operation(webhooks.update)
    delete = operation(webhooks.delete)
    rotate = operation(webhooks.rotate)
    test = operation(webhooks.send_test)
    deliveries = iteration(webhooks.deliveries)
    redeliver = operation(webhooks.redeliver)


class Keys(Resource[Driver]):
    """`client.keys`."""

    create = operation(access.create_key)
    list = iteration(access.list_keys)
    get = operation(access.get_key)
    rotate = operation(access.rotate_key)
    revoke = operation(access.revoke_key)


class Projects(Resource[Driver]):
    """`client.projects`."""

    create = operation(access.create_project)
    list = iteration(access.list_projects)
    get = operation(access.get_project)
    update = operation(access.update_project)
    delete = operation(access.delete_project)


class Usage(Resource[Driver]):
    """`client.usage`."""

    days = iteration(access.usage)
    now = operation(access.standing)
    audit = iteration(access.audit)


class Catalog(Resource[Driver]):
    """`client.catalog`."""

    section = operation(fleet.catalog_section)
    job_schema = operation(fleet.job_schema)


class Service(Resource[Driver]):
    """`client.service`."""

    ready = operation(fleet.ready)
    examine = operation(fleet.examine)
