// The longer fixed texts of the V4 prompt: what introduces the tools, and what asks for more reasoning. A model
// file that carries a chat template was trained on that template's words, so they are taken from it, by rendering it
// for probe conversations and cutting out what it added; a file without one gets our own words (engine.md).

import { Script } from 'node:vm';
import { Template } from '@huggingface/jinja';
import { SpecialToken } from './vocabulary.js';

export interface PromptTexts {
  /** Before the tool schemas (one a line), ending in a line break. */
  readonly toolsHeader: string;
  /** After the last schema's line break. */
  readonly toolsFooter: string;
  /** Before everything, when the reasoning effort is HIGH. Only the files of 0731 and later have one (deepseek-v4.md §5.5). */
  readonly effortHigh: string;
  /** Before everything, when the reasoning effort is MAX. */
  readonly effortMax: string;
}

const { DSML, THINK, END_THINK } = SpecialToken;

export const OWN_PROMPT_TEXTS: PromptTexts = {
  toolsHeader: `## Tools

The functions listed below can be called for you. To call some, end your reply with one block of this form, one invoke element for each call:

<${DSML}tool_calls>
<${DSML}invoke name="function name">
<${DSML}parameter name="parameter name" string="true or false">value</${DSML}parameter>
</${DSML}invoke>
</${DSML}tool_calls>

A value that is a string stands there unquoted, with string="true". Any other value is written as JSON, with string="false". When you reason first, close the reasoning with ${END_THINK} before the reply or the block begins.

One JSON object per function:

`,
  toolsFooter: '\nCall only these functions, with arguments that fit their schemas.\n',
  effortHigh: '',
  effortMax: `Take all the room you need between ${THINK} and ${END_THINK}: split the problem into parts, try more than one way, check each result, and answer only when no doubt is left.\n\n`,
};

/** A template longer than this is not looked at. */
const TEMPLATE_CHARS_MAX = 256 * 1024;
/** Rendering a probe takes milliseconds; a template that loops must not stop the server from starting. */
const RENDER_MS_MAX = 2000;
const PROBE_SYSTEM = 'probe-system-text';
const PROBE_USER = 'probe-user-text';
const PROBE_TOOL = {
  type: 'function',
  function: { name: 'probe_tool', description: 'probe', parameters: { type: 'object', properties: {} } },
};

/** The file's texts where its template shows them, ours for the others. Never throws. */
export function readPromptTexts(chatTemplate: string | undefined): PromptTexts {
  if (chatTemplate === undefined || chatTemplate.length > TEMPLATE_CHARS_MAX) return OWN_PROMPT_TEXTS;
  const render = rendererOf(chatTemplate);
  if (render === null) return OWN_PROMPT_TEXTS;
  return { ...OWN_PROMPT_TEXTS, ...toolTextsOf(render), ...effortTextsOf(render) };
}

type Render = (variables: Record<string, unknown>) => string | null;

function rendererOf(chatTemplate: string): Render | null {
  let template: Template;
  try {
    template = new Template(chatTemplate);
  } catch {
    return null;
  }
  return (variables) => {
    try {
      const render = (): string =>
        template.render({
          messages: [
            { role: 'system', content: PROBE_SYSTEM },
            { role: 'user', content: PROBE_USER },
          ],
          bos_token: SpecialToken.BOS,
          eos_token: SpecialToken.EOS,
          add_generation_prompt: true,
          ...variables,
        });
      return new Script('render()').runInNewContext({ render }, { timeout: RENDER_MS_MAX }) as string;
    } catch {
      return null;
    }
  };
}

/** What stands between the system text and the user turn when there is one tool: header, its JSON, footer. */
function toolTextsOf(render: Render): Partial<PromptTexts> {
  const prompt = render({ tools: [PROBE_TOOL], thinking: true, enable_thinking: true });
  const block = between(prompt, `${PROBE_SYSTEM}\n\n`, `${SpecialToken.USER}${PROBE_USER}`);
  if (block === null) return {};
  const jsonAt = block.indexOf('{"name"');
  const jsonEnd = block.indexOf('\n', jsonAt);
  if (jsonAt < 0 || jsonEnd < 0 || !block.slice(jsonAt, jsonEnd).includes(PROBE_TOOL.function.name)) return {};
  return { toolsHeader: block.slice(0, jsonAt), toolsFooter: block.slice(jsonEnd + 1) };
}

/** What stands between BOS and the system text at the higher efforts. */
function effortTextsOf(render: Render): Partial<PromptTexts> {
  const textOf = (effort: 'high' | 'max'): string => {
    const prompt = render({ thinking: true, enable_thinking: true, reasoning_effort: effort });
    return between(prompt, SpecialToken.BOS, PROBE_SYSTEM) ?? '';
  };
  const effortMax = textOf('max');
  return { effortHigh: textOf('high'), ...(effortMax === '' ? {} : { effortMax }) };
}

function between(text: string | null, before: string, after: string): string | null {
  if (text === null) return null;
  const start = text.indexOf(before);
  const end = start < 0 ? -1 : text.indexOf(after, start + before.length);
  return end < 0 ? null : text.slice(start + before.length, end);
}
