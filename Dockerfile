# docker build -t tandem:dev .
# The image holds Node and the bundle, nothing else: no shell, no package manager, no node_modules.
FROM node:24-bookworm-slim AS build
WORKDIR /src
COPY package.json package-lock.json ./
RUN npm ci
COPY tsconfig.json ./
COPY scripts scripts
COPY src src
RUN npm run build

# User 65532, and nothing at run time needs to be written: run it with a read-only root.
FROM gcr.io/distroless/nodejs24-debian12:nonroot
WORKDIR /app
COPY --from=build /src/package.json ./
COPY --from=build /src/dist dist
ENV NODE_ENV=production
USER 65532:65532
EXPOSE 9443 9002 9003 9090 8081
ENTRYPOINT ["/nodejs/bin/node", "/app/dist/tandem.js"]
CMD ["--help"]
