// Building the page's elements. Text is always set as text: whatever people or models write is never read as HTML.

/** An element: el("p.note", { title: "..." }, "text", child). Functions among the properties are listeners. */
export function el(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  element.classList.add(...classes);
  for (const [key, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** 75.4 -> "1:15" */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const minutes = String(Math.floor(whole / 60) % 60).padStart(whole >= 3600 ? 2 : 1, "0");
  const hours = whole >= 3600 ? `${Math.floor(whole / 3600)}:` : "";
  return `${hours}${minutes}:${String(whole % 60).padStart(2, "0")}`;
}

/** Wait until Gradio has made the places with these ids. */
export function places(...ids) {
  const find = () => ids.map((id) => document.getElementById(id));
  return new Promise((resolve) => {
    const observer = new MutationObserver(() => {
      if (find().every(Boolean)) {
        observer.disconnect();
        resolve(find());
      }
    });
    observer.observe(document.documentElement, { childList: true, subtree: true });
    if (find().every(Boolean)) {
      observer.disconnect();
      resolve(find());
    }
  });
}
