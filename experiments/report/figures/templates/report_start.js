// What the reader chose before, and where in the page they are.
const chosenLanguage = remembered("language");
if (chosenLanguage in TAGS) language = chosenLanguage;
const chosenTheme = remembered("theme");
wear(chosenTheme in THEMES ? chosenTheme : "auto");
speak();
redraw();

const links = new Map(Array.from(document.querySelectorAll("nav a"), link => [link.hash.slice(1), link]));
const sections = Array.from(links.keys(), find);
const list = document.querySelector("nav");
function mark() {
  const passed = sections.filter(section => section.getBoundingClientRect().top < innerHeight / 3);
  const here = passed.at(-1) ?? sections[0];
  for (const [id, link] of links) {
    if (id !== here.id) link.removeAttribute("aria-current");
    else if (!link.hasAttribute("aria-current")) {
      link.setAttribute("aria-current", "true");
      // Where the contents are a bar, the bar follows.
      list.scrollTo({left: link.offsetLeft - list.offsetLeft - 24});
    }
  }
}
let marking = 0;
addEventListener("scroll", () => { marking ||= requestAnimationFrame(() => { marking = 0; mark(); }); }, {passive: true});
mark();
root.dataset.ready = "true";
