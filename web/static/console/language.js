// Korean and English. What the reader's browser asks for is in the page; what they chose here stays on their machine.
import { createContext, useContext } from "../vendor/preact.js";
import { en } from "./words.en.js";
import { ko } from "./words.ko.js";

const LANGUAGES = { ko, en };
const KEY = "language";

export const LanguageContext = createContext(ko);

export function useWords() {
  return useContext(LanguageContext);
}

export function wordsOf(language) {
  return LANGUAGES[language] ?? ko;
}

export function chosenLanguage() {
  const kept = localStorage.getItem(KEY);
  return kept in LANGUAGES ? kept : document.documentElement.lang in LANGUAGES ? document.documentElement.lang : "ko";
}

export function chooseLanguage(language) {
  localStorage.setItem(KEY, language);
}

const formats = new Map();

export function number(words, value) {
  if (value === null || value === undefined) return "–";
  if (!formats.has(words.locale)) formats.set(words.locale, new Intl.NumberFormat(words.locale, { maximumFractionDigits: 0 }));
  return formats.get(words.locale).format(value);
}

export function duration(words, ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} ${words.secondsUnit}`;
}
