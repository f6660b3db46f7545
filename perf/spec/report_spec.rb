# frozen_string_literal: true

require_relative "../lib/kino_bench"
require_relative "../lib/kino_bench/benchmark"
require_relative "../lib/kino_bench/report"

RSpec.describe KinoBench::Report do
  def rounds(*speeds, cpu: 10.0, errors: {})
    speeds.map do |speed|
      KinoBench::Benchmark::Round.new(requests_per_second: speed, cpu_us: cpu, p50_us: 500,
                                      p99_us: 0, pss_bytes: 50_000_000, errors:,
                                      idle_pss_bytes: nil, idle_rss_bytes: nil)
    end
  end

  subject(:report) do
    described_class.new({ "first" => rounds(100.0, 300.0, 200.0, cpu: 8.0),
                          "second" => rounds(100.0, 50.0, cpu: 20.0, errors: { read: 2 }) },
                        ["command: x"])
  end

  it "takes the median of an odd and of an even number of rounds" do
    expect(report.medians["first"][:requests_per_second]).to eq 200
    expect(report.medians["second"][:requests_per_second]).to eq 75
  end

  it "holds every server against the first" do
    expect(report.ratios["first"].values.compact).to all eq 1
    expect(report.ratios["second"]).to include(requests_per_second: 0.375, cpu_us: 2.5)
  end

  it "has no ratio to nothing" do
    expect(report.ratios["second"][:p99_us]).to be_nil
  end

  it "adds up the errors of all rounds, by server" do
    expect(report.errors).to eq("second" => { read: 4 })
  end

  it "prints a line for each server, and one for its errors" do
    lines = report.table.lines
    expect(lines[1]).to match(/\Afirst +200 +1\.00 +8\.00 +1\.00 +0\.50/)
    expect(lines[2]).to match(/\Asecond +75 +0\.38 +20\.00 +2\.50/)
    expect(lines[3]).to eq "second: errors: read 4"
  end

  it "leaves out what was not measured" do
    unknown = rounds(100.0).map { _1.with(p99_us: nil) }
    report = described_class.new({ "a" => unknown }, [])
    expect(report.table).to include("p50 ms").and satisfy { !_1.include?("p99 ms") }
    expect(report.medians["a"]).not_to include(:p99_us)
  end

  it "tells what an idle connection adds where there are some" do
    expect(report.table).not_to include("idle")
    held = rounds(100.0).map { _1.with(idle_pss_bytes: 700.4, idle_rss_bytes: 812.0) }
    lines = described_class.new({ "a" => held }, []).table.lines
    expect(lines[0]).to match(%r{PSS B/idle +RSS B/idle$})
    expect(lines[1]).to match(/ 700 +1\.00 +812 +1\.00$/)
  end

  it "gives all of it as JSON" do
    json = JSON.parse(report.json)
    expect(json["header"]).to eq ["command: x"]
    expect(json["servers"][1])
      .to include("name" => "second", "medians" => include("cpu_us" => 20.0))
    expect(json["servers"][1]["rounds"].map { _1["requests_per_second"] }).to eq [100, 50]
  end
end
