// What must hold for any input of the text layer, however hostile. Shared by the fuzzer (on dist/) and by the unit test
// that replays its corpus (on src/): each property throws when it does not hold.

/** `text` is the layer itself: { tokenizer, chat (ChatEncoder), checkConversation, ToolCallParser, DSML_MARK }. */
export function propertiesOf(text) {
  const { tokenizer, chat, checkConversation, ToolCallParser, DSML_MARK } = text;
  const wellFormed = (string) => string.replace(/\p{Surrogate}/gu, '\ufffd');
  const hold = (condition, what) => {
    if (!condition) throw new Error(what);
  };

  return {
    /** { text, parseSpecial, maxTokens } */
    tokenizer(input) {
      const { parseSpecial, maxTokens } = input;
      const ids = tokenizer.encode(input.text, { parseSpecial });
      const shown = tokenizer.decode(ids, { showSpecial: true });
      hold(shown.text === wellFormed(input.text), 'the text does not come back');
      hold(Buffer.from(shown.bytes).equals(Buffer.from(input.text, 'utf8')), 'the bytes do not come back');
      if (!parseSpecial) hold(!ids.some((id) => tokenizer.isSpecial(id)), 'a special token came out of text');
      const some = tokenizer.encode(input.text, { parseSpecial, maxTokens });
      if (ids.length > maxTokens) hold(some.length > maxTokens, 'maxTokens hides that there are more');
      else hold(some.join() === ids.join(), 'maxTokens changes a text that fits');
    },

    /** A Conversation. */
    chat(conversation) {
      let isRefused = false;
      checkConversation(conversation, (field, description) => {
        isRefused = true;
        hold(/^chat\.[a-z_]+/.test(field) && description.length < 200, `an odd violation: ${field}`);
      });
      if (isRefused) return;
      const { tokens, messageEnds, renderedText, startsInReasoning } = chat.encode(conversation);
      const back = tokenizer.decode(tokens, { showSpecial: true }).text;
      hold(back === wellFormed(renderedText), 'the tokens are not the rendered text');
      const count = (marker) => tokens.filter((id) => id === tokenizer.specialId(marker)).length;
      const assistants = conversation.messages.filter(({ role }) => role === 'assistant').length;
      const opened = conversation.continueFinalMessage ? 0 : 1;
      hold(count('<｜begin▁of▁sentence｜>') === 1, 'BOS');
      hold(count('<｜Assistant｜>') === assistants + opened, 'assistant markers');
      hold(count('<｜end▁of▁sentence｜>') === assistants + opened - 1, 'ends of answers');
      hold(!startsInReasoning || conversation.reasoningEffort !== 'none', 'reasoning in chat mode');
      hold(messageEnds.length === conversation.messages.length, 'messageEnds');
      // Results of tools stand in the order of their calls.
      const inOrder = messageEnds.filter((_, i) => conversation.messages[i].role !== 'tool');
      for (let i = 1; i < inOrder.length; i++) hold(inOrder[i] >= inOrder[i - 1], 'messageEnds fall');
      hold(Math.max(...messageEnds) <= tokens.length, 'messageEnds pass the end');
    },

    /** { pieces }: output as it comes; '§' stands for the ｜DSML｜ token. */
    output({ pieces }) {
      const marked = pieces.map((piece) => wellFormed(piece).replaceAll('§', DSML_MARK));
      const whole = JSON.stringify(parse([marked.join('')]));
      hold(JSON.stringify(parse(marked)) === whole, 'the cuts change the result');
      // By character: a mark is a lone unit, so splitting by code point keeps it.
      hold(JSON.stringify(parse([...marked.join('')])) === whole, 'single characters change the result');
    },
  };

  function parse(pieces) {
    const parser = new ToolCallParser((index) => `call-${index}`);
    const result = { text: '', calls: [] };
    for (const { text, toolCalls } of [...pieces.map((piece) => parser.push(piece)), parser.finish()]) {
      result.text += text;
      for (const { index, id, name, argumentsJson } of toolCalls) {
        hold((result.calls[index] === undefined) === (id !== ''), 'the id is not in the first piece only');
        result.calls[index] ??= { id, name, argumentsJson: '' };
        result.calls[index].argumentsJson += argumentsJson;
      }
    }
    // As a unit of its own: it is half of some characters.
    hold(!new RegExp(DSML_MARK, 'u').test(result.text), 'the mark leaks');
    return result;
  }
}
